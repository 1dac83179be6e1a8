// What a user can do, whichever button, key or mouse says it.

import { Api, Refused, type SessionInfo } from "./api";
import { cornersOf, type Part, unpack } from "./arrays";
import { type Box, drawn, saidBox } from "./box";
import { Case } from "./case";
import { element } from "./elements";
import { formatOf, stemOf } from "./formats";
import { rasOfFile, reversed, triple, type Triple } from "./geometry";
import * as keeping from "./keep";
import { drawMarks, placeOf } from "./marks";
import { colourOf } from "./palette";
import type { Tool } from "./pointer";
import { labelsOf } from "./score";
import { Tasks } from "./tasks";
import type { Plane } from "./tiles";
import { Viewer } from "./viewer";

const DEMO = "demo";
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

  // Sessions ---------------------------------------------------------------------------------

  openFile(file: File, choice: Record<string, string>): Promise<void> {
    return this.tasks.run(`Opening ${file.name}`, async (stop, progress) => {
      const query = new URLSearchParams({ format: formatOf(file.name), ...choice });
      const sent = await this.api.upload(`/sessions/file?${query}`, file, stop, progress);
      const info = JSON.parse(new TextDecoder().decode(sent)) as SessionInfo;
      await this.show(info, { name: file.name, colours: [] }, stop, progress);
    });
  }

  openDemo(): Promise<void> {
    return this.tasks.run("Opening the demo volume", async (stop, progress) => {
      const info = await this.api.json<SessionInfo>("POST", "/demo", undefined, stop);
      const kept = { name: "demo brain", colours: [] };
      const reference = { name: DEMO, format: DEMO, body: new Blob() };
      await keeping.keepReference(info.id, reference);
      await this.show(info, kept, stop, progress);
      this.draft = this.case?.reference ? cornersOf(this.case.reference) : null;
      if (this.draft) this.goTo(middleOf(this.draft));
      this.changed();
    });
  }

  resume(id: string): Promise<void> {
    return this.tasks.run("Opening the session", async (stop, progress) => {
      try {
        const info = await this.api.json<SessionInfo>("GET", `/sessions/${id}`, undefined, stop);
        await this.show(info, keeping.keptOf(id), stop, progress);
        this.tool = info.cursor ? "click" : "box";
        this.changed();
      } catch (error) {
        if (error instanceof Refused && error.status === 404) keeping.putInAddress(null);
        throw error;
      }
    });
  }

  end(): Promise<void> {
    return this.tasks.run("Deleting the session", async () => {
      await this.case?.end();
      keeping.putInAddress(null);
      location.reload();
    });
  }

  loadReference(file: File): Promise<void> {
    return this.tasks.run(`Reading ${file.name}`, async (stop, progress) => {
      const { case: open } = this;
      if (!open) return;
      const reference = { name: file.name, format: formatOf(file.name), body: file };
      this.compareWith(await this.readReference(open, reference, stop, progress));
      await keeping.keepReference(open.info.id, reference);
      this.changed();
    });
  }

  compareWith(reference: Part): void {
    const labels = labelsOf(reference);
    if (!labels.length) throw new Error("The reference is empty; give a mask with some voxels.");
    this.case!.reference = reference;
    this.case!.referenceLabel = labels[0];
  }

  // Prompts ----------------------------------------------------------------------------------

  /** Do something with the open session; afterwards everything is shown anew. */
  act(name: string, action: (open: Case, stop: AbortSignal) => Promise<void>): Promise<void> {
    return this.tasks.run(name, async (stop) => {
      if (!this.case) return;
      try {
        await action(this.case, stop);
      } finally {
        await this.showDoubt();
        this.showMasks();
        this.changed();
      }
    });
  }

  segmentBox(): Promise<void> {
    return this.act("Segmenting the box", async (open, stop) => {
      const box = this.box;
      if (!box) throw new Error("There is no box yet; drag one on a plane.");
      await open.box(box, stop);
      this.draft = null;
      this.tool = "click";
    });
  }

  click(ras: Triple, positive: boolean): Promise<void> {
    return this.act(positive ? "Adding" : "Removing", async (open, stop) => {
      this.viewer.goTo(ras);
      await open.click(placeOf(ras, this.viewer.turn), positive, stop);
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

  private async show(
    info: SessionInfo,
    kept: keeping.Kept,
    stop: AbortSignal,
    progress: (done: number, total: number) => void,
  ): Promise<void> {
    const bytes = await this.api.bytes(`/sessions/${info.id}/view`, stop, progress);
    const opened = await Case.open(this.api, info, stop);
    const reference = await keeping.referenceOf(info.id);
    this.kept = kept;
    this.draft = this.shownDoubt = null;
    this.tool = "box";
    this.case = opened;
    keeping.putInAddress(info.id);
    keeping.keep(info.id, kept);
    document.body.dataset.case = "yes";
    await this.viewer.show(bytes, this.colours);
    if (reference) this.compareWith(await this.readReference(opened, reference, stop, progress));
    this.showMasks();
    this.changed();
  }

  private async readReference(
    open: Case,
    reference: keeping.Reference,
    stop: AbortSignal,
    progress: (done: number, total: number) => void,
  ): Promise<Part> {
    if (reference.format === DEMO) return this.api.array("GET", "/demo/reference", undefined, stop);
    const path = `${open.path}/reference?format=${reference.format}`;
    return unpack(await this.api.upload(path, reference.body, stop, progress));
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

function middleOf(box: Box): Triple {
  return triple((n) => Math.floor((box.lo[n] + box.hi[n]) / 2));
}
