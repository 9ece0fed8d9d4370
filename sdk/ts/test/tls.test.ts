// wss:// and links:// against the server's own certificate, in Node and in a
// page of headless Chromium, with the connection cut and the server killed.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

import type { Browser, Page } from 'playwright-core';

import { type Client, connect } from '../src/node/index.js';
import type * as sdk from '../src/index.js';
import { contextOf, launch, serve, served, withoutChromium } from './support/chromium.js';
import { here } from './support/paths.js';
import { patience, Posthouse, Proxy, withoutServer } from './support/posthouse.js';

const numbers = (prefix: string, n: number) => Array.from({ length: n }, (_, i) => `${prefix}${i}`);

describe('over TLS, with a certificate', { skip: withoutServer, timeout: 5 * patience }, () => {
  let server: Posthouse;
  let proxy: Proxy; // of bytes: what goes through is encrypted
  const programs: ChildProcess[] = [];
  const clients: Client[] = [];
  before(async () => {
    server = await Posthouse.open();
    proxy = await Proxy.open(server.https);
  });
  after(async () => {
    for (const p of programs) p.kill('SIGKILL');
    for (const c of clients) await c.close();
    await proxy?.close();
    await server?.close();
  });

  /** A program of its own, since Node reads what it trusts when it begins. It prints what bob receives. */
  function program(url: string, trusts: boolean): { line: () => Promise<string>; end: () => void } {
    const source = `
      import { connect } from ${JSON.stringify(pathToFileURL(join(here, 'build', 'src', 'node', 'index.js')).href)};
      const c = connect({ url: ${JSON.stringify(url)}, user: 'bob', password: 'secret', device: ${JSON.stringify(`d${programs.length}`)} });
      c.on('state', (s) => console.log('*', s.state, s.way, s.reason?.text ?? ''));
      c.onMessage((m) => console.log(m.body));`;
    const env = { ...process.env, ...(trusts ? { NODE_EXTRA_CA_CERTS: server.certificate } : {}) };
    const p = spawn(process.execPath, ['--input-type=module', '-e', source], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    programs.push(p);
    const lines = createInterface(p.stdout)[Symbol.asyncIterator]();
    return { line: async () => ((await lines.next()).value as string | undefined) ?? 'the end', end: () => p.kill('SIGKILL') };
  }

  const alice = () => {
    const c = connect({ url: `http://127.0.0.1:${server.http}`, user: 'alice', password: 'secret', device: `sender${clients.length}` });
    clients.push(c);
    return c;
  };
  async function lines(p: { line: () => Promise<string> }, n: number): Promise<string[]> {
    const all: string[] = [];
    while (all.length < n) {
      const l = await p.line();
      assert.notEqual(l, 'the end');
      if (!l.startsWith('*')) all.push(l);
    }
    return all;
  }
  async function state(p: { line: () => Promise<string> }, begins: string): Promise<string> {
    for (;;) {
      const l = await p.line();
      assert.notEqual(l, 'the end');
      if (l.startsWith(`* ${begins}`)) return l;
    }
  }

  for (const [way, url] of [['websocket', () => `wss://localhost:${proxy.port}/link`], ['tcp', () => `links://localhost:${server.links}`]] as const) {
    test(`in Node by ${way}: cut, and kill -9 of the server`, async () => {
      const bob = program(url(), true);
      await state(bob, `online ${way}`);
      const c = alice();
      const mine = numbers(`${way} `, 60);
      for (const body of mine.slice(0, 20)) await c.send({ to: 'bob', body });
      proxy.cut();
      for (const body of mine.slice(20, 40)) await c.send({ to: 'bob', body });
      await server.kill();
      const rest = mine.slice(40).map((body) => c.send({ to: 'bob', body }));
      await server.start();
      await Promise.all(rest);
      let got: string[] = [];
      while (got.at(-1) !== mine.at(-1)) got = [...got, ...(await lines(bob, 1))].filter((b) => b.startsWith(way));
      assert.deepEqual(got, mine);
      bob.end();
    });
  }

  test('in Node: a certificate that nobody trusts', async () => {
    const bob = program(`wss://localhost:${server.https}/link`, false);
    assert.match(await state(bob, 'waiting'), /self-signed|certificate/);
    bob.end();
  });

  describe('in a page of Chromium', { skip: withoutChromium }, () => {
    let browser: Browser;
    let page: Page;
    interface Global {
      client: sdk.Client;
      bodies: string[];
    }
    before(async () => {
      // The browser takes this certificate and no other that is not trusted.
      const key = new X509Certificate(readFileSync(server.certificate)).publicKey.export({ type: 'spki', format: 'der' });
      browser = await launch(
        served,
        `--ignore-certificate-errors-spki-list=${createHash('sha256').update(key).digest('base64')}`,
      );
      const context = await contextOf(browser);
      await serve(context); // of the server's origin; what they ask for is the server's
      page = await context.newPage();
      page.on('pageerror', (e) => console.error('in the page:', e));
      await page.goto(`https://localhost:${proxy.port}/page.html`);
    });
    after(async () => browser?.close());

    test('wss: cut and restored, and kill -9 of the server', async () => {
      await page.evaluate(async () => {
        const g = globalThis as unknown as Global;
        const { connect, indexedDBStore } = (await import('/sdk/index.js' as string)) as typeof sdk;
        g.bodies = [];
        g.client = connect({ url: location.origin, user: 'bob', password: 'secret', device: 'page', store: indexedDBStore('bob') });
        g.client.onMessage((m) => void (m.body.startsWith('page') && g.bodies.push(m.body)));
      });
      const is = (state: string, way?: string) =>
        page.waitForFunction(
          ([state, way]) => {
            const s = (globalThis as unknown as Global).client.state;
            return s.state === state && (way === undefined || s.way === way);
          },
          [state, way] as const,
        );
      await is('online', 'websocket');
      const c = alice();
      const mine = numbers('page ', 60);
      for (const body of mine.slice(0, 20)) await c.send({ to: 'bob', body });
      proxy.refuse = true;
      proxy.cut();
      await is('waiting');
      for (const body of mine.slice(20, 40)) await c.send({ to: 'bob', body });
      proxy.refuse = false;
      await is('online', 'websocket');
      await server.kill();
      const rest = mine.slice(40).map((body) => c.send({ to: 'bob', body }));
      await server.start();
      await Promise.all(rest);
      await page.waitForFunction((n) => (globalThis as unknown as Global).bodies.length >= n, mine.length);
      assert.deepEqual(await page.evaluate(() => (globalThis as unknown as Global).bodies), mine);
    });
  });
});
