// What every store must do. IndexedDB does it in the browser's tests.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { fileStore, memoryStore, type Entry, type Store } from '../src/node/index.js';
import { here } from './support/paths.js';

const dir = mkdtempSync(join(tmpdir(), 'posthouse-store-'));
after(() => rmSync(dir, { recursive: true }));

const entry = (id: string, more: Partial<Entry> = {}): Entry => ({
  id, to: 'bob', type: '', data: Uint8Array.of(1, 0, 255), urgency: 'high', expires: 7, attrs: [['a', 'b']], ...more,
});

const memory = memoryStore();
const stores: Record<string, () => Store> = { memory: () => memory, file: () => fileStore(join(dir, 'in', 'a', 'directory.jsonl')) };

for (const [name, open] of Object.entries(stores)) {
  test(`${name} store`, async () => {
    let s = open();
    assert.deepEqual(await s.load(), { state: {}, outbox: [] });
    await Promise.all([s.put(entry('1')), s.put(entry('2')), s.save({ place: 5 }), s.put(entry('3', { to: 'carol\n"' }))]);
    await s.remove('2');
    await s.remove('unknown');
    await s.save({ place: 6, address: 'alice@localhost', ways: { wifi: 'poll' } });
    await s.close();
    s = open();
    const kept = { state: { place: 6, address: 'alice@localhost', ways: { wifi: 'poll' } }, outbox: [entry('1'), entry('3', { to: 'carol\n"' })] };
    assert.deepEqual(await s.load(), kept);
    await s.put(entry('4'));
    await s.close();
    s = open();
    assert.deepEqual((await s.load()).outbox.map((e) => e.id), ['1', '3', '4']);
    await s.close();
  });
}

test('a file whose last line a crash has cut', async () => {
  const path = join(dir, 'cut.jsonl');
  let s = fileStore(path);
  await s.load();
  await s.put(entry('1'));
  await s.save({ place: 9 });
  await s.close();
  appendFileSync(path, '{"put":{"id":"2","to":"b');
  s = fileStore(path);
  assert.deepEqual(await s.load(), { state: { place: 9 }, outbox: [entry('1')] });
  await s.put(entry('3'));
  await s.close();
  s = fileStore(path);
  assert.deepEqual((await s.load()).outbox.map((e) => e.id), ['1', '3']);
  await s.close();
  assert.equal(statSync(path).mode & 0o077, 0, 'others may read it');
});

test('a file does not grow for ever', async () => {
  const path = join(dir, 'long.jsonl');
  const s = fileStore(path);
  await s.load();
  await s.put(entry('stays'));
  for (let i = 0; i < 40; i++) {
    await s.put(entry('big', { data: new Uint8Array(50_000) }));
    await s.remove('big');
  }
  await s.close();
  assert.ok(statSync(path).size < 1.2e6, `${statSync(path).size} bytes`);
  assert.match(readFileSync(path, 'utf8'), /"stays"/);
});

test('a file with lines that were not on disk when the power was lost', async () => {
  const path = join(dir, 'zeros.jsonl');
  let s = fileStore(path);
  await s.load();
  await s.put(entry('1'));
  await s.close();
  appendFileSync(path, '\0'.repeat(512) + '\n' + '{"state":{"pl\n' + '{"remove":"other"}\n');
  s = fileStore(path);
  assert.deepEqual(await s.load(), { state: {}, outbox: [entry('1')] });
  await s.close();
});

test('many at a time share one write', async () => {
  const path = join(dir, 'many.jsonl');
  const s = fileStore(path);
  await s.load();
  await Promise.all(Array.from({ length: 2000 }, (_, i) => s.put(entry(`${i}`))));
  await s.close();
  const again = fileStore(path);
  assert.deepEqual((await again.load()).outbox.map((e) => e.id), Array.from({ length: 2000 }, (_, i) => `${i}`));
  await again.close();
});

test('a store that was never loaded is closed', async () => {
  const path = join(dir, 'is a directory');
  mkdirSync(path);
  const s = fileStore(path);
  await assert.rejects(s.load());
  await s.close();
});

test('a line that did not fit is no harm to the next', () => {
  const path = join(dir, 'full.jsonl');
  const program = `
    import { fileStore } from ${JSON.stringify(pathToFileURL(join(here, 'build', 'src', 'node', 'file.js')).href)};
    const entry = (id, size) => ({ id, to: 'bob', type: '', data: new Uint8Array(size), urgency: 'normal', expires: 0, attrs: [] });
    let s = fileStore(${JSON.stringify(path)});
    await s.load();
    await s.put(entry('small', 1));
    const failed = await s.put(entry('large', 100_000)).then(() => '', (e) => e.code);
    await s.put(entry('after', 1));
    await s.close();
    s = fileStore(${JSON.stringify(path)});
    console.log(JSON.stringify([failed, (await s.load()).outbox.map((e) => e.id)]));`;
  // A file may have 64 KiB: the long line is cut there.
  const out = execFileSync('bash', ['-c', 'ulimit -f 64; exec "$0" --input-type=module -e "$1"', process.execPath, program], { encoding: 'utf8' });
  assert.deepEqual(JSON.parse(out), ['EFBIG', ['small', 'after']]);
});
