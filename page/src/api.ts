// Requests to the server. A refusal becomes an error whose message is the server's sentence.

import { type Part, unpack } from "./arrays";
import type { Triple } from "./geometry";
import type { Said } from "./history";

export interface ObjectInfo {
  name: string;
  label: number;
}

export interface SessionInfo {
  id: string;
  shape: Triple;
  objects: ObjectInfo[];
  current: string;
  history: Said[];
  cursor: number;
}

export type Progress = (done: number, total: number) => void;

/** What the server refused, and with which status. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    sentence: string,
  ) {
    super(sentence);
  }
}

const ROOT = "/api/v1";
const UNREACHABLE = "The server does not answer. Is `segvol-gru serve` still running?";

export class Api {
  /** What `--api-key` of the server asks for; empty if it asks for none. */
  key = "";

  async json<T>(method: string, path: string, body?: unknown, stop?: AbortSignal): Promise<T> {
    return (await this.send(method, path, body, stop)).json() as Promise<T>;
  }

  async array(method: string, path: string, body?: unknown, stop?: AbortSignal): Promise<Part> {
    return unpack(await (await this.send(method, path, body, stop)).arrayBuffer());
  }

  /** A download that tells how far it is. */
  async bytes(path: string, stop: AbortSignal, progress: Progress): Promise<ArrayBuffer> {
    const answer = await this.send("GET", path, undefined, stop);
    const total = Number(answer.headers.get("Content-Length") ?? 0);
    if (!answer.body || !total) return answer.arrayBuffer();
    const whole = new Uint8Array(total);
    const reader = answer.body.getReader();
    let done = 0;
    for (;;) {
      const piece = await reader.read();
      if (piece.done) return whole.buffer;
      whole.set(piece.value, done);
      done += piece.value.length;
      progress(done, total);
    }
  }

  /** An upload that tells how far it is; `fetch` cannot. */
  upload(path: string, file: Blob, stop: AbortSignal, progress: Progress): Promise<ArrayBuffer> {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", ROOT + path);
      for (const [name, value] of Object.entries(this.headers())) {
        request.setRequestHeader(name, value);
      }
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.responseType = "arraybuffer";
      request.upload.onprogress = (event) => progress(event.loaded, event.total);
      request.onerror = () => reject(new Error(UNREACHABLE));
      request.onabort = () => reject(new DOMException("stopped", "AbortError"));
      request.onload = () => {
        const answer = request.response as ArrayBuffer;
        if (request.status < 300) resolve(answer);
        else reject(refusal(request.status, new TextDecoder().decode(answer)));
      };
      stop.addEventListener("abort", () => request.abort());
      request.send(file);
    });
  }

  async send(
    method: string,
    path: string,
    body?: unknown,
    stop?: AbortSignal,
  ): Promise<Response> {
    const headers = this.headers();
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const text = body === undefined ? undefined : JSON.stringify(body);
    let answer: Response;
    try {
      answer = await fetch(ROOT + path, { method, headers, body: text, signal: stop });
    } catch (error) {
      if (stop?.aborted) throw error;
      throw new Error(UNREACHABLE);
    }
    if (!answer.ok) throw refusal(answer.status, await answer.text());
    return answer;
  }

  private headers(): Record<string, string> {
    return this.key ? { Authorization: `Bearer ${this.key}` } : {};
  }
}

function refusal(status: number, body: string): Refused {
  let sentence = `The server answered ${status}.`;
  try {
    sentence = sentenceOf((JSON.parse(body) as { detail: string }).detail);
  } catch {
    // a proxy in between answers in its own words
  }
  return new Refused(status, sentence);
}

function sentenceOf(detail: string): string {
  return detail.charAt(0).toUpperCase() + detail.slice(1);
}
