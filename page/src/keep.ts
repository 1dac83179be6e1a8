// What survives a reload: which session, its file's name, colours, the reference.
//
// The id of a session is its password, so it stands behind the `#`, which no request carries.

export interface Reference {
  name: string;
  format: string;
  body: Blob;
}

export interface Kept {
  name: string;
  colours: [number, string][];
}

const LAST = "segvol-gru last session";
const STORE = "references";

export function sessionInAddress(): string | null {
  return new URLSearchParams(location.hash.slice(1)).get("session");
}

export function putInAddress(id: string | null): void {
  history.replaceState(null, "", id ? `#session=${id}` : location.pathname);
  if (id) localStorage.setItem(LAST, id);
  else localStorage.removeItem(LAST);
}

/** The session that was open last on this machine. */
export function lastSession(): string | null {
  return localStorage.getItem(LAST);
}

export function keptOf(id: string): Kept {
  const text = localStorage.getItem(`segvol-gru ${id}`);
  return text ? (JSON.parse(text) as Kept) : { name: "volume", colours: [] };
}

export function keep(id: string, kept: Kept): void {
  localStorage.setItem(`segvol-gru ${id}`, JSON.stringify(kept));
}

export async function keepReference(id: string, reference: Reference): Promise<void> {
  await inStore("readwrite", (store) => store.put(reference, id));
}

export async function referenceOf(id: string): Promise<Reference | undefined> {
  return (await inStore("readonly", (store) => store.get(id))) as Reference | undefined;
}

/** Leave nothing of a session in this browser. */
export async function forget(id: string): Promise<void> {
  localStorage.removeItem(`segvol-gru ${id}`);
  await inStore("readwrite", (store) => store.delete(id));
}

function inStore(
  mode: IDBTransactionMode,
  ask: (store: IDBObjectStore) => IDBRequest,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("segvol-gru", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    opening.onerror = () => reject(new Error("This browser keeps nothing for the page."));
    opening.onsuccess = () => {
      const base = opening.result;
      const transaction = base.transaction(STORE, mode);
      const request = ask(transaction.objectStore(STORE));
      transaction.onabort = () => reject(new Error("The browser's store of references failed."));
      transaction.oncomplete = () => {
        base.close();
        resolve(request.result);
      };
    };
  });
}
