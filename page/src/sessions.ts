// Beginning, resuming and ending sessions; references.

import { type Progress, Refused, type SessionInfo } from "./api";
import type { App } from "./app";
import { cornersOf, type Part, unpack } from "./arrays";
import type { Box } from "./box";
import { Case } from "./case";
import { formatOf } from "./formats";
import { triple, type Triple } from "./geometry";
import * as keeping from "./keep";
import { labelsOf } from "./score";

export const DEMO_NAME = "demo brain";
const DEMO: keeping.Reference = { name: "demo", format: "demo", body: new Blob() };

/** Open a file; `choice` says which channel or frame. */
export function openFile(app: App, file: File, choice: Record<string, string>): Promise<void> {
  return app.tasks.run(`Opening ${file.name}`, async (stop, progress) => {
    const query = new URLSearchParams({ format: formatOf(file.name), ...choice });
    const sent = await app.api.upload(`/sessions/file?${query}`, file, stop, progress);
    const info = JSON.parse(new TextDecoder().decode(sent)) as SessionInfo;
    await open(app, info, { name: file.name, colours: [] }, async () => undefined, stop, progress);
  });
}

/** Open the demo with a box drawn around its structure. */
export function openDemo(app: App): Promise<void> {
  return app.tasks.run("Opening the demo volume", async (stop, progress) => {
    const info = await app.api.json<SessionInfo>("POST", "/demo", undefined, stop);
    await open(app, info, { name: DEMO_NAME, colours: [] }, async () => DEMO, stop, progress);
    app.draft = app.case?.reference ? cornersOf(app.case.reference) : null;
    if (app.draft) app.goTo(middleOf(app.draft));
    app.changed();
    await keeping.keepReference(info.id, DEMO);
  });
}

/** Go on with a session of the server. */
export function resume(app: App, id: string): Promise<void> {
  return app.tasks.run("Opening the session", async (stop, progress) => {
    try {
      const info = await app.api.json<SessionInfo>("GET", `/sessions/${id}`, undefined, stop);
      const stored = () => keeping.referenceOf(id);
      await open(app, info, keeping.keptOf(id), stored, stop, progress);
    } catch (error) {
      if (error instanceof Refused && error.status === 404) keeping.putInAddress(null);
      throw error;
    }
  });
}

/** Delete the session, here and on the server, and begin anew. */
export function end(app: App): Promise<void> {
  const asked = app.case;
  return app.tasks.run("Deleting the session", async () => {
    if (!asked) return;
    if (app.case !== asked) throw new Error("Another session was opened; nothing was deleted.");
    await asked.end();
    keeping.putInAddress(null);
    try {
      await keeping.forget(asked.info.id);
    } finally {
      location.reload(); // also where the browser keeps no references
    }
  });
}

/** Compare with the mask in a file. */
export function loadReference(app: App, file: File): Promise<void> {
  const asked = app.case;
  return app.tasks.run(`Reading ${file.name}`, async (stop, progress) => {
    if (!asked || app.case !== asked) return;
    const reference = { name: file.name, format: formatOf(file.name), body: file };
    compareWith(asked, await read(app, asked, reference, stop, progress));
    app.changed();
    await keeping.keepReference(asked.info.id, reference);
  });
}

/** Show a session; without its reference if that cannot be found or read. */
async function open(
  app: App,
  info: SessionInfo,
  kept: keeping.Kept,
  find: () => Promise<keeping.Reference | undefined>,
  stop: AbortSignal,
  progress: Progress,
): Promise<void> {
  const bytes = await app.api.bytes(`/sessions/${info.id}/view`, stop, progress);
  const opened = await Case.open(app.api, info, stop);
  let trouble = "";
  try {
    const reference = await find();
    if (reference) compareWith(opened, await read(app, opened, reference, stop, progress));
  } catch (error) {
    if (stop.aborted) throw error;
    trouble = error instanceof Error ? error.message : String(error);
  }
  keeping.putInAddress(info.id);
  keeping.keep(info.id, kept);
  await app.show(opened, kept, bytes);
  app.changed();
  if (trouble) app.tasks.complain(`Opened without a reference: ${trouble}`);
}

async function read(
  app: App,
  opened: Case,
  reference: keeping.Reference,
  stop: AbortSignal,
  progress: Progress,
): Promise<Part> {
  if (reference.format === DEMO.format) {
    return app.api.array("GET", "/demo/reference", undefined, stop);
  }
  const path = `${opened.path}/reference?format=${reference.format}`;
  return unpack(await app.api.upload(path, reference.body, stop, progress));
}

function compareWith(opened: Case, reference: Part): void {
  const labels = labelsOf(reference);
  if (!labels.length) throw new Error("The reference is empty; give a mask with some voxels.");
  opened.compareWith(reference, labels[0]);
}

function middleOf(box: Box): Triple {
  return triple((n) => Math.floor((box.lo[n] + box.hi[n]) / 2));
}
