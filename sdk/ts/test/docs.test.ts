// The examples of docs/sdk-typescript.md, pasted. Only the ports are others.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import type { Page } from 'playwright-core';

import { contextOf, launch, rows, withoutChromium } from './support/chromium.js';
import { here, project } from './support/paths.js';
import { freePort, patience, Posthouse, withoutServer } from './support/posthouse.js';

/** Looks again and again, and measures nothing. */
async function until(there: () => boolean, what: () => string): Promise<void> {
  for (const late = Date.now() + patience; !there(); ) {
    assert.ok(Date.now() < late, what());
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A program that runs in a terminal. */
class Terminal {
  readonly #process: ChildProcess;
  #over = false; // and all that it printed is here
  out = '';

  constructor(dir: string, line: string) {
    this.#process = spawn('bash', ['-euc', `exec ${line}`], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const s of [this.#process.stdout!, this.#process.stderr!]) s.on('data', (b: Buffer) => (this.out += b.toString()));
    this.#process.once('close', () => (this.#over = true));
  }

  /** How often a line begins so. */
  count(line: string): number {
    return this.out.split('\n').filter((l) => l.startsWith(line)).length;
  }

  /** Waits until n lines begin so; more than that are an error, unless least. */
  async until(line: string, n = 1, least = false): Promise<void> {
    await until(() => this.count(line) >= n || this.#over, () => `not ${n} times ${line} but\n${this.out}`);
    assert.ok(least ? this.count(line) >= n : this.count(line) === n, this.out);
  }

  async end(): Promise<void> {
    if (this.#over) return;
    this.#process.kill();
    await once(this.#process, 'close');
  }
}

describe('the five minutes of the documentation', { skip: withoutServer, timeout: 5 * patience }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'posthouse-docs-'));
  const terminals: Terminal[] = [];
  let blocks: string[];
  let server: Posthouse;
  let page: number;

  const paste = (cwd: string, script: string) => execFileSync('bash', ['-euc', script], { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const terminal = (cwd: string, line: string) => {
    const t = new Terminal(cwd, line);
    terminals.push(t);
    return t;
  };
  /** A block, and its last line by itself: that one stays in its terminal. */
  const last = (block: string): [string, string] => {
    const lines = block.trimEnd().split('\n');
    return [lines.slice(0, -1).join('\n'), lines.at(-1)!];
  };

  before(async () => {
    page = await freePort();
    server = await Posthouse.open();
    await server.kill();
    const text = readFileSync(join(project, 'docs', 'sdk-typescript.md'), 'utf8');
    blocks = [...text.matchAll(/```sh\n(.*?)```/gs)].map((m) => m[1]!);
    assert.equal(blocks.length, 4, 'has the page changed?');
    server.args = [...blocks[0]!.matchAll(/--set (\S+)/g)].flatMap((m) => ['--set', m[1]!.replace('8000', String(page))]);
    assert.equal(server.args.length, 4);
    const ports: Record<string, number> = { 8080: server.http, 7400: server.link, 8000: page };
    blocks = blocks.map((b) => b.replace(/\b(8080|7400|8000)\b/g, (port) => String(ports[port]))); // all at once: one may have another's digits
    await server.start();
    mkdirSync(join(dir, 'sdk'));
    symlinkSync(here, join(dir, 'sdk', 'ts'));
    paste(join(dir, 'sdk', 'ts'), 'npm run build');
  });
  after(async () => {
    await Promise.all(terminals.map((t) => t.end()));
    await server?.close();
    rmSync(dir, { recursive: true });
  });

  test('in Node, with the server killed and both programs ended', async () => {
    const hello = 'alice@localhost: hello from Node';
    const [setup, run] = last(blocks[1]!);
    paste(dir, setup);
    const first = terminal(join(dir, 'try'), run);
    await first.until('* online websocket', 1, true);
    assert.match(paste(dir, blocks[2]!), /duplicate: false/);
    await first.until(hello, 1);

    await server.kill();
    const sends = terminal(join(dir, 'try'), last(blocks[2]!)[1]);
    await first.until('* waiting', first.count('* waiting') + 1, true);
    await server.start();
    await first.until(hello, 2);
    await sends.until('{ id:', 1);

    // What it had printed and not yet kept the next program would print again.
    await until(() => readFileSync(join(dir, 'try', 'bob.jsonl'), 'utf8').includes('"place":2'), () => 'the place is not kept');
    await first.end();
    paste(dir, blocks[2]!);
    const second = terminal(join(dir, 'try'), run);
    await second.until(hello, 1);
    await second.end();
  });

  test('in a page, which is closed while the server is away', { skip: withoutChromium }, async () => {
    const [setup, serve] = last(blocks[3]!);
    paste(join(dir, 'try'), setup);
    terminal(join(dir, 'try'), serve);
    const bob = terminal(join(dir, 'try'), last(blocks[1]!)[1]);
    const browser = await launch();
    try {
      const context = await contextOf(browser);
      const open = async (): Promise<Page> => {
        const p = await context.newPage();
        for (;;) {
          try {
            await p.goto(`http://localhost:${page}`);
            return p;
          } catch (e) {
            if (!String(e).includes('ERR_CONNECTION_REFUSED')) throw e; // Python has not begun to listen
          }
        }
      };
      const say = async (p: Page, text: string) => {
        await p.fill('#text', text);
        await p.click('button');
      };
      let p = await open();
      await p.waitForSelector('text=online websocket');
      await say(p, 'hello from a page');
      await bob.until('alice@localhost: hello from a page');
      await server.kill();
      await p.waitForSelector('text=waiting');
      await say(p, 'sent without a server');
      await rows(p, 'alice', 'outbox', (all) => all.length === 1);
      await p.close();
      await server.start();
      p = await open();
      await bob.until('alice@localhost: sent without a server');
      await p.waitForSelector('text=stored as number');
      assert.equal(bob.count('alice@localhost: hello from a page'), 1);
    } finally {
      await browser.close();
    }
  });
});
