// The store in the browser, in a page of headless Chromium.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import type { Browser, Page } from 'playwright-core';

import type * as sdk from '../src/index.js';
import { contextOf, launch, serve, withoutChromium } from './support/chromium.js';
import { patience } from './support/posthouse.js';

interface Global {
  open: (name: string) => sdk.Store;
  entry: (id: string, data?: number[]) => sdk.Entry;
}

interface Puts {
  done?: () => void;
  enough?: boolean; // stop is a function of every window
}

describe('the IndexedDB store', { skip: withoutChromium, timeout: 5 * patience }, () => {
  let browser: Browser;
  let page: Page;
  before(async () => {
    browser = await launch();
  });
  after(async () => browser?.close());

  /** A fresh page in a fresh profile; script is run in it first. */
  async function fresh(script = ''): Promise<void> {
    const context = await contextOf(browser);
    await context.addInitScript(script);
    await serve(context);
    page = await context.newPage();
    await load();
  }
  async function load(): Promise<void> {
    await page.goto('http://localhost:1/page.html');
    await page.evaluate(async () => {
      const { indexedDBStore } = (await import('/sdk/index.js' as string)) as typeof sdk;
      const g = globalThis as unknown as Global;
      g.open = indexedDBStore;
      g.entry = (id, data = [1, 0, 255]) => ({ id, to: 'bob', type: '', data: Uint8Array.from(data), urgency: 'high', expires: 7, attrs: [['a', 'b']] });
    });
  }

  test('keeps what it was given, over a reload of the page', async () => {
    await fresh();
    await page.evaluate(async () => {
      const { open, entry } = globalThis as unknown as Global;
      const s = open('alice');
      const empty = await s.load();
      if (JSON.stringify(empty) !== '{"state":{},"outbox":[]}') throw new Error(JSON.stringify(empty));
      await Promise.all([s.put(entry('1')), s.put(entry('2')), s.save({ place: 5 }), s.put(entry('3', []))]);
      await s.remove('2');
      await s.remove('unknown');
      await Promise.all([s.put(entry('again')), s.remove('again'), s.put(entry('again'))]);
      await s.remove('again');
      await s.save({ place: 6, ways: { wifi: 'poll' } });
    });
    await load();
    const kept = await page.evaluate(async () => {
      const { open, entry } = globalThis as unknown as Global;
      let s = open('alice');
      const { state, outbox } = await s.load();
      await s.put(entry('4'));
      await s.close();
      s = open('alice');
      const ids = (await s.load()).outbox.map((e) => e.id);
      const other = (await open('bob').load()).outbox.length;
      return { state, outbox: outbox.map((e) => ({ ...e, data: [...e.data] })), ids, other };
    });
    const entry = (id: string, data: number[]) => ({ id, to: 'bob', type: '', data, urgency: 'high', expires: 7, attrs: [['a', 'b']] });
    assert.deepEqual(kept, { state: { place: 6, ways: { wifi: 'poll' } }, outbox: [entry('1', [1, 0, 255]), entry('3', [])], ids: ['1', '3', '4'], other: 0 });
  });

  test('goes on when the browser has closed the database', async () => {
    await fresh();
    await page.evaluate(async () => {
      const g = globalThis as unknown as Global & { s: sdk.Store };
      g.s = g.open('alice');
      await g.s.load();
      await g.s.put(g.entry('1'));
    });
    const cdp = await page.context().newCDPSession(page);
    await cdp.send('Storage.clearDataForOrigin', { origin: 'http://localhost:1', storageTypes: 'indexeddb' });
    const ids = await page.evaluate(async () => {
      const { s, open, entry } = globalThis as unknown as Global & { s: sdk.Store };
      await s.put(entry('2'));
      await s.remove('1');
      await s.save({ place: 1 });
      await s.close();
      return (await open('alice').load()).outbox.map((e) => e.id);
    });
    assert.deepEqual(ids, ['2']);
  });

  test('goes on when the browser closes the database in the middle of changes, again and again', async () => {
    await fresh();
    const puts = page.evaluate(async () => {
      const g = globalThis as unknown as Global & Puts;
      const s = g.open('alice');
      await s.load();
      let n = 0;
      while (!g.enough) {
        await s.put(g.entry(`${++n}`));
        g.done?.();
      }
      await s.put(g.entry('last'));
      await s.close();
      return (await g.open('alice').load()).outbox.at(-1)?.id;
    });
    const cdp = await page.context().newCDPSession(page);
    for (let i = 0; i < 50; i++) {
      await Promise.race([puts, page.evaluate(() => new Promise<void>((done) => Object.assign(globalThis, { done })))]);
      await cdp.send('Storage.clearDataForOrigin', { origin: 'http://localhost:1', storageTypes: 'indexeddb' });
    }
    await page.evaluate(() => Object.assign(globalThis, { enough: true }));
    assert.equal(await puts, 'last');
  });

  test('two at a time, where nothing keeps them apart, lose nothing', async () => {
    await fresh('Object.defineProperty(Navigator.prototype, "locks", { value: undefined })');
    const ids = await page.evaluate(async () => {
      const { open, entry } = globalThis as unknown as Global;
      const [a, b] = [open('alice'), open('alice')];
      await a.load();
      await b.load();
      await Promise.all([a.put(entry('a1')), b.put(entry('b1')), a.put(entry('a2')), b.put(entry('b2'))]);
      await b.remove('b1');
      await a.close();
      await b.close();
      return (await open('alice').load()).outbox.map((e) => e.id).sort();
    });
    assert.deepEqual(ids, ['a1', 'a2', 'b2']);
  });

  test('many at a time share a transaction', async () => {
    await fresh();
    const counted = await page.evaluate(async () => {
      const { open, entry } = globalThis as unknown as Global;
      const s = open('alice');
      await s.load();
      let transactions = 0;
      const begin = IDBDatabase.prototype.transaction;
      IDBDatabase.prototype.transaction = function (...of) {
        transactions++;
        return begin.apply(this, of);
      };
      await Promise.all(Array.from({ length: 500 }, (_, i) => s.put(entry(`${i}`))));
      IDBDatabase.prototype.transaction = begin;
      await s.close();
      const { outbox } = await open('alice').load();
      return { transactions, inOrder: outbox.every((e, i) => e.id === `${i}`), n: outbox.length };
    });
    assert.deepEqual(counted, { transactions: 2, inOrder: true, n: 500 });
  });

  test('one that is closed while it waits for another gives way', async () => {
    await fresh();
    const ended = await page.evaluate(async () => {
      const { open } = globalThis as unknown as Global;
      const [first, second, third] = [open('alice'), open('alice'), open('alice')];
      await first.load();
      const waits = second.load().then(() => 'loaded', (e: Error) => e.name);
      const next = third.load();
      await second.close();
      await first.close();
      await next;
      return waits;
    });
    assert.equal(ended, 'AbortError');
  });
});
