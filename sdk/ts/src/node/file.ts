import { mkdir, open, readFile, rename, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';

import { Batches } from '../store/batches.js';
import type { Entry, State, Store } from '../store/store.js';

/** A line of the file: a state, an entry put, or the id of one removed. */
type Line = { state: State } | { put: Omit<Entry, 'data'> & { data: string } } | { remove: string };

interface Change {
  line: Line;
  /** Whether it must be on disk when it is done. */
  sync: boolean;
}

const rewriteAt = 1 << 20; // bytes that a file grows before it is written anew

/**
 * A store in a file, one line of JSON for each change, written anew when it has
 * grown. A message is on disk when its put resolves. One program may use a file
 * at a time.
 */
export function fileStore(path: string): Store {
  const log = new Log(path, () => [{ state }, ...[...outbox.values()].map(putLine)]);
  const outbox = new Map<string, Entry>();
  let state: State = {};
  return {
    async load() {
      for (const l of await log.read()) {
        if ('state' in l) state = l.state;
        else if ('put' in l) outbox.set(l.put.id, { ...l.put, data: new Uint8Array(Buffer.from(l.put.data, 'base64')) });
        else outbox.delete(l.remove);
      }
      await log.rewrite();
      return { state, outbox: [...outbox.values()] };
    },
    save(s) {
      state = s;
      return log.append({ state: s }, false); // if it is lost with the machine's power, a message comes again
    },
    put(e) {
      outbox.set(e.id, e);
      return log.append(putLine(e), true).catch((error: unknown) => {
        outbox.delete(e.id);
        throw error;
      });
    },
    remove(id) {
      outbox.delete(id);
      return log.append({ remove: id }, false); // if it is lost the message is sent again, and stored once
    },
    close: () => log.close(),
  };
}

const putLine = (e: Entry): Line => ({ put: { ...e, data: Buffer.from(e.data).toString('base64') } });

/** A file of lines that is appended to. */
class Log {
  readonly #path: string;
  readonly #all: () => Line[];
  #file: FileHandle | undefined;
  #whole = false; // the file is the one at the path, and ends with a whole line
  #grown = 0; // bytes beyond what must be there
  readonly #batches = new Batches<Change>((changes) => this.#write(changes));

  /** All gives the lines that must be there when the file is written anew. */
  constructor(path: string, all: () => Line[]) {
    this.#path = path;
    this.#all = all;
  }

  /**
   * What the file holds. A line that cannot be read was not on disk yet when the
   * machine lost its power: nobody was told that it was.
   */
  async read(): Promise<Line[]> {
    await mkdir(dirname(this.#path), { recursive: true });
    const text = await readFile(this.#path, 'utf8').catch((e: NodeJS.ErrnoException) => {
      if (e.code === 'ENOENT') return '';
      throw e;
    });
    return text.split('\n').flatMap((l) => {
      try {
        return [JSON.parse(l) as Line];
      } catch {
        return [];
      }
    });
  }

  append(line: Line, sync: boolean): Promise<void> {
    return this.#batches.add({ line, sync });
  }

  async #write(changes: Change[]): Promise<void> {
    await this.#append(changes.map((c) => JSON.stringify(c.line) + '\n').join(''));
    if (changes.some((c) => c.sync)) await this.#file!.datasync();
    if (this.#grown > rewriteAt) await this.rewrite().catch(() => (this.#grown = 0)); // it grows on, and is tried again later
  }

  async #append(text: string): Promise<void> {
    if (!this.#whole) await this.rewrite();
    this.#whole = false;
    await this.#file!.appendFile(text);
    this.#whole = true;
    this.#grown += text.length;
  }

  /** Writes the file anew, with what must be there. */
  async rewrite(): Promise<void> {
    const next = await open(this.#path + '.new', 'w', 0o600);
    try {
      await next.writeFile(this.#all().map((l) => JSON.stringify(l) + '\n').join(''));
      await next.sync();
      await rename(this.#path + '.new', this.#path);
      this.#whole = false;
      await syncDirectory(dirname(this.#path)); // or after a loss of power the old file is there, without what comes now
    } catch (e) {
      await next.close();
      throw e;
    }
    await this.#file?.close();
    this.#file = next;
    this.#whole = true;
    this.#grown = 0;
  }

  async close(): Promise<void> {
    await this.#batches.idle();
    await this.#file?.close();
    this.#file = undefined;
    this.#whole = false;
  }
}

async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return; // which has no such thing
  const d = await open(path);
  try {
    await d.sync();
  } finally {
    await d.close();
  }
}
