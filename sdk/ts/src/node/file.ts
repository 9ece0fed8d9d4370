import { mkdir, open, readFile, rename, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';

import type { Entry, State, Store } from '../store/store.js';

/** A line of the file: a state, an entry put, or the id of one removed. */
type Line = { state: State } | { put: Omit<Entry, 'data'> & { data: string } } | { remove: string };

const rewriteAt = 1 << 20; // bytes that a file grows before it is written anew

/**
 * A store in a file, one line of JSON for each change, written anew when it has
 * grown. A message is on disk when its put resolves. One program may use a file
 * at a time.
 */
export function fileStore(path: string): Store {
  let state: State = {};
  const outbox = new Map<string, Entry>();
  let file: FileHandle;
  let size = 0;
  let queue = Promise.resolve(); // changes, one after another

  const append = async (l: Line, sync: boolean): Promise<void> => {
    const text = JSON.stringify(l) + '\n';
    await file.write(text);
    if (sync) await file.datasync();
    size += text.length;
    if (size > rewriteAt) await rewrite();
  };
  const rewrite = async (): Promise<void> => {
    const next = await open(path + '.new', 'w', 0o600);
    const lines: Line[] = [{ state }, ...[...outbox.values()].map((e): Line => ({ put: { ...e, data: encode(e.data) } }))];
    const text = lines.map((l) => JSON.stringify(l) + '\n').join('');
    await next.writeFile(text);
    await next.sync();
    await rename(path + '.new', path);
    await file?.close();
    file = next;
    size = 0; // beyond what must be there
  };
  const then = (f: () => Promise<void>): Promise<void> => {
    const done = queue.then(f);
    queue = done.catch(() => {});
    return done;
  };

  return {
    async load() {
      await mkdir(dirname(path), { recursive: true });
      for (const l of await lines(path)) {
        if ('state' in l) state = l.state;
        else if ('put' in l) outbox.set(l.put.id, { ...l.put, data: decode(l.put.data) });
        else outbox.delete(l.remove);
      }
      await rewrite();
      return { state, outbox: [...outbox.values()] };
    },
    save(s) {
      state = s;
      return then(() => append({ state: s }, false));
    },
    put(e) {
      outbox.set(e.id, e);
      return then(() => append({ put: { ...e, data: encode(e.data) } }, true)).catch((error: unknown) => {
        outbox.delete(e.id);
        throw error;
      });
    },
    remove(id) {
      outbox.delete(id);
      return then(() => append({ remove: id }, false)); // if it is lost the message is sent again, and stored once
    },
    close: () => then(() => file.close()),
  };
}

const encode = (data: Uint8Array) => Buffer.from(data).toString('base64');
const decode = (data: string) => new Uint8Array(Buffer.from(data, 'base64'));

/** What the file holds. A last line that a crash has cut is not there. */
async function lines(path: string): Promise<Line[]> {
  const text = await readFile(path, 'utf8').catch((e: NodeJS.ErrnoException) => {
    if (e.code === 'ENOENT') return '';
    throw e;
  });
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((l) => l !== '')
    .map((l) => JSON.parse(l) as Line);
}
