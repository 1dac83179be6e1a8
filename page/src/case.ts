// One volume on the server and what was said about it. Everything shown comes from here.

import type { Api, SessionInfo } from "./api";
import { emptyPart, type Part } from "./arrays";
import type { Box } from "./box";
import type { Triple } from "./geometry";
import { keyOf, live, type Said } from "./history";
import { dice } from "./score";

export class Case {
  /** Masks by object name. */
  readonly masks = new Map<string, Part>();
  /** Labels on the same grid to compare with, and which of them is meant. */
  reference: Part | null = null;
  referenceLabel = 1;
  /** Doubt about the current object; null while it is not shown. */
  doubt: Part | null = null;
  /** Where to look next, (z, y, x). */
  suggestion: Triple | null = null;
  /** Scores against the reference; another reference begins another map. */
  private scores = new Map<string, number>();
  /** How many changes the server was asked for that `info` does not tell yet. */
  private changing = 0;

  private constructor(
    private readonly api: Api,
    public info: SessionInfo,
  ) {}

  /** A session of the server with all its masks. */
  static async open(api: Api, info: SessionInfo, stop: AbortSignal): Promise<Case> {
    const opened = new Case(api, info);
    for (const { name } of info.objects) {
      const path = `${opened.path}/mask?name=${encodeURIComponent(name)}`;
      opened.masks.set(name, await api.array("GET", path, undefined, stop));
    }
    return opened;
  }

  get path(): string {
    return `/sessions/${this.info.id}`;
  }

  get label(): number {
    return this.info.objects.find((o) => o.name === this.info.current)!.label;
  }

  get mask(): Part {
    return this.masks.get(this.info.current) ?? emptyPart(this.info.shape);
  }

  /** What led to the mask on the screen. */
  get live(): Said[] {
    return live(this.info.history, this.info.cursor);
  }

  async box(box: Box, stop: AbortSignal): Promise<void> {
    await this.say("/box", box, stop);
  }

  async click(at: Triple, positive: boolean, stop: AbortSignal): Promise<void> {
    await this.say("/click", { at, positive }, stop);
  }

  async undo(): Promise<void> {
    await this.say("/undo", undefined);
  }

  async redo(): Promise<void> {
    await this.say("/redo", undefined);
  }

  async reset(): Promise<void> {
    await this.say("/reset", undefined);
  }

  async jump(step: number): Promise<void> {
    await this.say("/jump", { step });
  }

  /** Compare with labels on the same grid, and say which of them is meant. */
  compareWith(reference: Part, label: number): void {
    this.reference = reference;
    this.referenceLabel = label;
    this.scores = new Map();
  }

  /** Add, select, rename or remove an object. */
  change(what: "" | "/select" | "/remove" | "/rename", body: object): Promise<void> {
    return this.counted(() => this.changeObjects(what, body));
  }

  private async changeObjects(what: string, body: object): Promise<void> {
    const before = this.info.objects;
    this.info = await this.api.json("POST", `${this.path}/objects${what}`, body);
    const names = new Map(this.info.objects.map((o) => [o.label, o.name]));
    const masks = new Map(before.map((o) => [names.get(o.label), this.masks.get(o.name)]));
    this.masks.clear();
    for (const [name, mask] of masks) if (name && mask) this.masks.set(name, mask);
    if (what === "/remove") this.scores = new Map();
    await this.lookAgain();
  }

  async showDoubt(on: boolean): Promise<void> {
    this.doubt = on ? await this.api.array("GET", `${this.path}/doubt`) : null;
  }

  async suggest(): Promise<Triple | null> {
    const { at } = await this.api.json<{ at: Triple | null }>("GET", `${this.path}/suggest`);
    this.suggestion = at;
    return at;
  }

  /**
   * The score of every step of the current object, from the empty mask on.
   *
   * Empty if unknown, and if the object or its history changed meanwhile.
   */
  async curve(): Promise<number[]> {
    const { reference, referenceLabel, info, label, scores } = this;
    if (!reference) return [];
    const found: number[] = [];
    for (let step = 0; step <= info.history.length; step++) {
      const key = `${referenceLabel} ${keyOf(label, info.history, step)}`;
      let score = scores.get(key);
      if (score === undefined) {
        const mask = await this.past(step, info);
        if (!mask) return [];
        score = dice(mask, reference, referenceLabel);
        scores.set(key, score);
      }
      found.push(score);
    }
    return found;
  }

  /**
   * The mask after a step of what `info` tells of; null if that changed meanwhile.
   *
   * The server answers for the object that it has selected and does not say which that is.
   */
  private async past(step: number, info: SessionInfo): Promise<Part | null> {
    const changed = () => this.changing > 0 || this.info !== info;
    try {
      const mask = await this.api.array("GET", `${this.path}/past?step=${step}`);
      return changed() ? null : mask;
    } catch (error) {
      if (changed()) return null;
      throw error;
    }
  }

  async end(): Promise<void> {
    await this.api.send("DELETE", this.path);
  }

  private say(path: string, body: unknown, stop?: AbortSignal): Promise<void> {
    return this.counted(() => this.sayNow(path, body, stop));
  }

  private async sayNow(path: string, body: unknown, stop?: AbortSignal): Promise<void> {
    const { current, cursor } = this.info;
    try {
      this.masks.set(current, await this.api.array("POST", this.path + path, body, stop));
    } catch (error) {
      if (stop?.aborted) await this.takeBack(current, cursor);
      throw error;
    }
    this.info = await this.look();
    await this.lookAgain();
  }

  /**
   * The server finishes what it began; if that counted it is undone.
   *
   * A prompt moves the cursor, but may leave the same history: one that is said again after its
   * undo. Steps that were undone before it are gone, as after any prompt: no request restores them.
   */
  private async takeBack(current: string, cursor: number): Promise<void> {
    this.info = await this.look();
    if (this.info.cursor === cursor) return;
    this.masks.set(current, await this.api.array("POST", `${this.path}/undo`));
    this.info = await this.look();
  }

  /** Change something on the server; until this is over, `info` may not tell what is there. */
  private async counted(change: () => Promise<void>): Promise<void> {
    this.changing++;
    try {
      await change();
    } finally {
      this.changing--;
    }
  }

  private look(): Promise<SessionInfo> {
    return this.api.json("GET", this.path);
  }

  private async lookAgain(): Promise<void> {
    this.suggestion = null;
    if (this.doubt) await this.showDoubt(true);
  }
}
