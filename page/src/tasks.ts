// One thing after the other, with progress, cancel and a sentence when it fails.

import { type Progress, Refused } from "./api";
import { element } from "./elements";

export type Action = (stop: AbortSignal, progress: Progress) => Promise<void>;

const QUIET_MS = 150; // shorter waits show no bar

export class Tasks {
  /** Called with the status of every refusal, after its sentence is shown. */
  onRefused: (status: number) => void = () => {};
  private readonly words = element("words");
  private readonly bar = element("bar", HTMLProgressElement);
  private readonly cancelButton = element("cancel", HTMLButtonElement);
  private last: Promise<void> = Promise.resolve();
  private running: AbortController | null = null;
  private waiting = 0;

  constructor() {
    this.cancelButton.onclick = () => this.cancel();
  }

  /** Do something when everything before it is done. Never throws: the user reads what failed. */
  run(name: string, action: Action): Promise<void> {
    this.waiting++;
    const mine = this.last.then(() => this.one(name, action));
    this.last = mine;
    return mine;
  }

  /** Stop what is running now. */
  cancel(): void {
    this.running?.abort();
  }

  say(words: string): void {
    this.words.textContent = words;
    this.words.classList.remove("bad");
  }

  complain(error: unknown): void {
    this.words.textContent = error instanceof Error ? error.message : String(error);
    this.words.classList.add("bad");
  }

  private async one(name: string, action: Action): Promise<void> {
    const stop = new AbortController();
    this.running = stop;
    this.say("");
    const timer = setTimeout(() => this.show(name), QUIET_MS);
    try {
      await action(stop.signal, (done, total) => this.progress(done, total));
    } catch (error) {
      if (stop.signal.aborted) this.say(`Cancelled: ${name.toLowerCase()}.`);
      else this.complain(error);
      if (error instanceof Refused) this.onRefused(error.status);
    } finally {
      clearTimeout(timer);
      this.running = null;
      this.waiting--;
      this.bar.hidden = this.cancelButton.hidden = true;
      document.body.dataset.busy = this.waiting ? "yes" : "no";
      if (this.words.textContent === `${name} …`) this.say("");
    }
  }

  private show(name: string): void {
    document.body.dataset.busy = "yes";
    this.say(`${name} …`);
    this.bar.removeAttribute("value");
    this.bar.hidden = this.cancelButton.hidden = false;
  }

  private progress(done: number, total: number): void {
    if (total) this.bar.value = done / total;
    if (done >= total) this.bar.removeAttribute("value");
  }
}
