// What a user can do, whichever button, key or mouse says it.

import { Api } from "./api";
import type { Part } from "./arrays";
import { type Box, drawn, saidBox } from "./box";
import { Case } from "./case";
import { element } from "./elements";
import { stemOf } from "./formats";
import { rasOfFile, reversed, type Triple } from "./geometry";
import * as keeping from "./keep";
import { drawMarks, placeOf } from "./marks";
import { colourOf } from "./palette";
import type { Tool } from "./pointer";
import { Tasks } from "./tasks";
import type { Plane } from "./tiles";
import { Viewer } from "./viewer";

const KEY = "segvol-gru key";

export class App {
  readonly api = new Api();
  readonly tasks = new Tasks();
  readonly viewer = new Viewer();
  /** The open session; null before the first. */
  case: Case | null = null;
  kept: keeping.Kept = { name: "", colours: [] };
  /** A box that is drawn or typed but not segmented yet. */
  draft: Box | null = null;
  tool: Tool = "box";
  private readonly marks = element("marks", HTMLCanvasElement);
  private readonly renders: (() => void)[] = [];
  private readonly readies: (() => void)[] = [];

  constructor() {
    this.api.key = sessionStorage.getItem(KEY) ?? "";
    this.viewer.onDrawn = () => this.drawMarks();
  }

  /** Call something whenever what is known may have changed. */
  onChange(render: () => void): void {
    this.renders.push(render);
  }

  /** Call something once, when the viewer has its canvas. */
  onReady(run: () => void): void {
    this.readies.push(run);
  }

  ready(): void {
    for (const run of this.readies) run();
    this.changed();
  }

  changed(): void {
    document.body.dataset.case = this.case ? "yes" : "no";
    for (const render of this.renders) render();
    this.drawMarks();
  }

  useKey(key: string): void {
    sessionStorage.setItem(KEY, key);
    this.api.key = key;
  }

  // Prompts ----------------------------------------------------------------------------------

  /**
   * Do something with the session that is open now; afterwards everything is shown anew.
   *
   * Nothing is done if another session is open when its turn comes.
   */
  act(name: string, action: (open: Case, stop: AbortSignal) => Promise<void>): Promise<void> {
    const asked = this.case;
    return this.tasks.run(name, async (stop) => {
      if (!asked || this.case !== asked) return;
      try {
        await action(asked, stop);
      } finally {
        await this.showDoubt();
        this.showMasks();
        this.changed();
      }
    });
  }

  segmentBox(): Promise<void> {
    const { box, draft } = this;
    return this.act("Segmenting the box", async (open, stop) => {
      if (!box) throw new Error("There is no box yet; drag one on a plane.");
      await open.box(box, stop);
      if (this.draft !== draft) return; // the user draws the next one
      this.draft = null;
      this.tool = "click";
    });
  }

  click(ras: Triple, positive: boolean): Promise<void> {
    const at = placeOf(ras, this.viewer.turn);
    return this.act(positive ? "Adding" : "Removing", async (open, stop) => {
      this.viewer.goTo(ras);
      await open.click(at, positive, stop);
    });
  }

  drag(first: Triple, second: Triple, plane: Plane, done: boolean): void {
    const before = this.case ? saidBox(this.case.live) : null;
    this.draft = drawn(before, first, second, plane, this.viewer.turn);
    this.changed();
    if (done) void this.segmentBox();
  }

  suggest(): Promise<void> {
    return this.act("Looking for doubt", async (open) => {
      const at = await open.suggest();
      if (!at) {
        this.tasks.say("Nothing is in doubt. Draw a box first, or look for errors yourself.");
        return;
      }
      this.goTo(at);
      this.tool = "click";
      this.tasks.say(`Is voxel ${at.join(", ")} in the structure? Left click: yes. Right: no.`);
    });
  }

  // What is shown ----------------------------------------------------------------------------

  /** The box that is drawn, else the one that the mask began with; (z, y, x), inclusive. */
  get box(): Box | null {
    return this.draft ?? (this.case ? saidBox(this.case.live) : null);
  }

  get colours(): Map<number, string> {
    const chosen = new Map(this.kept.colours);
    const known = Array.from({ length: 255 }, (_, n): [number, string] => [
      n + 1,
      chosen.get(n + 1) ?? colourOf(n + 1),
    ]);
    return new Map(known);
  }

  setColour(label: number, colour: string): void {
    const others = this.kept.colours.filter(([n]) => n !== label);
    this.kept = { ...this.kept, colours: [...others, [label, colour]] };
    keeping.keep(this.case!.info.id, this.kept);
    this.viewer.setColours(this.colours);
  }

  /** Move the crosshair to the server's (z, y, x). */
  goTo(at: Triple): void {
    this.viewer.goTo(rasOfFile(reversed(at), this.viewer.turn));
  }

  get stem(): string {
    return stemOf(this.kept.name);
  }

  /** Show another session from its beginning. */
  async show(opened: Case, kept: keeping.Kept, bytes: ArrayBuffer): Promise<void> {
    this.kept = kept;
    this.case = opened;
    this.draft = this.shownDoubt = null;
    this.tool = opened.info.cursor ? "click" : "box";
    document.body.dataset.case = "yes";
    await this.viewer.show(bytes, this.colours);
    this.showMasks();
  }

  /** All masks, the current object's on top. */
  private showMasks(): void {
    const { info, masks } = this.case!;
    const rank = (name: string) => (name === info.current ? 1 : 0);
    const ordered = [...info.objects].sort((a, b) => rank(a.name) - rank(b.name));
    this.viewer.setMasks(
      ordered.flatMap(({ name, label }) => {
        const mask = masks.get(name);
        return mask ? [{ mask, label }] : [];
      }),
    );
  }

  private shownDoubt: Part | null = null;

  private async showDoubt(): Promise<void> {
    const doubt = this.case?.doubt ?? null;
    if (doubt === this.shownDoubt) return;
    this.shownDoubt = doubt;
    await this.viewer.setHeat(doubt);
  }

  private drawMarks(): void {
    if (!this.case || this.viewer.isEmpty) return;
    const { live, suggestion } = this.case;
    const marks = { box: this.box, entries: live, suggestion };
    const { turn, at } = this.viewer;
    drawMarks(this.marks, this.viewer.tiles(), marks, turn, at);
  }
}
