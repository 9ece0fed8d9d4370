// The SDK in a page of headless Chromium, against the real server, over a
// connection that is cut and restored.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import type { Browser, BrowserContext, Page } from 'playwright-core';

import type * as sdk from '../src/index.js';
import { contextOf, launch, rows, serve, served, withoutChromium } from './support/chromium.js';
import { patience, Posthouse, Proxy, withoutServer } from './support/posthouse.js';

const without = withoutServer || withoutChromium;

/** What the page keeps for the test. */
interface Global {
  sdk: typeof sdk;
  client: sdk.Client;
  bodies: string[];
  place: number; // of the last of them
  queued: number;
  said: string[];
}

describe('in a page of Chromium', { skip: without, timeout: 5 * patience }, () => {
  let server: Posthouse;
  let proxy: Proxy;
  let browser: Browser;
  let context: BrowserContext;

  before(async () => {
    server = await Posthouse.open();
    proxy = await Proxy.open(server.http);
    browser = await launch(served);
    context = await contextOf(browser);
    await serve(context);
  });
  after(async () => {
    await browser?.close();
    await proxy?.close();
    await server?.close();
  });

  /** Opens a page with a client whose store is in IndexedDB. */
  async function open(user: string, page?: Page): Promise<Page> {
    const p = page ?? (await context.newPage());
    p.on('pageerror', (e) => console.error('in the page:', e));
    await p.goto(`http://127.0.0.1:${proxy.port}/page.html`);
    await begin(p, user);
    return p;
  }

  async function begin(p: Page, user: string): Promise<void> {
    await p.evaluate(async (user) => {
      const g = globalThis as unknown as Global;
      g.sdk = (await import('/sdk/index.js' as string)) as typeof sdk;
      g.bodies = [];
      g.said = [];
      g.queued = 0;
      g.client = g.sdk.connect({
        url: location.origin, user, password: 'secret', device: 'page', store: g.sdk.indexedDBStore(user), trace: (line) => g.said.push(line),
      });
      g.client.onMessage((m) => {
        g.bodies.push(m.body);
        g.place = m.seq;
      });
      g.client.on('queued', () => g.queued++);
    }, user);
  }

  const send = (p: Page, bodies: string[], to = 'bob') =>
    p.evaluate(
      async ([to, bodies]) => {
        const g = globalThis as unknown as Global;
        return Promise.all(bodies.map((body) => g.client.send({ to, body }).then((r) => r.seq)));
      },
      [to, bodies] as const,
    );
  /** What bob has received, when it is so much, and when the next page will not receive it again. */
  const received = async (p: Page, n: number): Promise<string[]> => {
    await p.waitForFunction((n) => (globalThis as unknown as Global).bodies.length >= n, n);
    const { bodies, place } = await p.evaluate(() => {
      const { bodies, place } = globalThis as unknown as Global;
      return { bodies, place };
    });
    await rows(p, 'bob', 'state', ([state]) => (state as { place?: number } | undefined)?.place === place);
    return bodies;
  };
  const online = (p: Page, way: string) =>
    p.waitForFunction(
      (way) => {
        const s = (globalThis as unknown as Global).client.state;
        return s.state === 'online' && s.way === way;
      },
      way,
    );

  test('send and receive, cut and restored', async () => {
    const alice = await open('alice');
    const bob = await open('bob');
    await online(bob, 'websocket');
    assert.equal((await send(alice, ['one', 'two'])).length, 2);
    assert.deepEqual(await received(bob, 2), ['one', 'two']);

    // Both are cut, while messages are on their way.
    const under = send(alice, Array.from({ length: 50 }, (_, i) => `u${i}`));
    proxy.cut();
    await under;
    const all = ['one', 'two', ...Array.from({ length: 50 }, (_, i) => `u${i}`)];
    assert.deepEqual(await received(bob, all.length), all);

    // No network for a while.
    proxy.refuse = true;
    proxy.cut();
    await alice.waitForFunction(() => (globalThis as unknown as Global).client.state.state === 'waiting');
    const offline = send(alice, ['three', 'four']);
    await alice.waitForFunction(() => (globalThis as unknown as Global).client.pending === 2);
    proxy.refuse = false;
    await offline;
    all.push('three', 'four');
    assert.deepEqual(await received(bob, all.length), all);
    await alice.close();
    await bob.close();
  });

  test('long texts go deflated, in order, and come as they were', async () => {
    const bob = await open('bob');
    await online(bob, 'websocket');
    const long = JSON.stringify(Array.from({ length: 200 }, (_, i) => ({ number: i, name: `überlang ${i}` })));
    await send(bob, [long, 'short', long], 'bob');
    assert.deepEqual(await received(bob, 3), [long, 'short', long]);
    const said = await bob.evaluate(() => (globalThis as unknown as Global).said.filter((s) => s.startsWith('C: SEND')).map((s) => / deflated=/.test(s)));
    assert.deepEqual(said, [true, false, true]);
    await bob.close();
  });

  test('a queue and a place that survive a reload', async () => {
    const alice = await open('alice');
    const bob = await open('bob');
    await online(alice, 'websocket');
    await online(bob, 'websocket');
    await send(alice, ['before']);
    assert.deepEqual(await received(bob, 1), ['before']); // and nothing of what the last page had
    proxy.refuse = true;
    proxy.cut();
    await alice.waitForFunction(() => (globalThis as unknown as Global).client.state.state === 'waiting');
    const lost = send(alice, ['queued 1', 'queued 2']).catch(() => {}); // the page that asked is gone
    await alice.waitForFunction(() => (globalThis as unknown as Global).queued === 3); // pending may not be in the store yet
    proxy.refuse = false;
    await alice.reload();
    await lost;
    await begin(alice, 'alice');
    assert.deepEqual(await received(bob, 3), ['before', 'queued 1', 'queued 2']);
    await bob.reload();
    await begin(bob, 'bob');
    await online(bob, 'websocket');
    await send(alice, ['after']);
    assert.deepEqual(await received(bob, 1), ['after']);
    await alice.close();
    await bob.close();
  });

  test('a second page waits for the first', async () => {
    const first = await open('alice');
    await online(first, 'websocket');
    const second = await open('alice');
    await send(first, ['still me'], 'alice');
    await second.waitForFunction(() => (globalThis as unknown as Global).client.state.reason?.code === 'in-use');
    const third = await open('alice');
    await third.evaluate(() => (globalThis as unknown as Global).client.close()); // it waits no more
    await first.close();
    await online(second, 'websocket');
    await second.close();
  });

  test('by long poll where WebSockets are refused', async () => {
    proxy.noUpgrade = true;
    const bob = await open('bob');
    await online(bob, 'poll');
    await send(bob, ['to myself'], 'bob');
    assert.deepEqual(await received(bob, 1), ['to myself']);
    proxy.noUpgrade = false;
    await online(bob, 'websocket');
    await send(bob, ['again'], 'bob');
    assert.deepEqual(await received(bob, 2), ['to myself', 'again']);
    await bob.close();
  });
});
