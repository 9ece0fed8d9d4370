// Packs the package as npm publish would, and looks whether what is in it is
// what should be: installed in an empty directory it must load there, by import
// and by require, what a page gets of it must name no module of Node's, and its
// types must hold in strict programs of several kinds.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const here = new URL('.', import.meta.url).pathname;
const dir = mkdtempSync(join(tmpdir(), 'posthouse-pack-'));
const npm = (cwd, ...args) => execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
try {
  const [pack] = JSON.parse(npm(here, 'pack', '--ignore-scripts', '--json', '--pack-destination', dir));
  const sources = readdirSync(join(here, 'src'), { recursive: true }).map(String).filter((f) => f.endsWith('.ts'));
  const want = ['LICENSE', 'README.md', 'package.json'];
  for (const f of sources) want.push(`dist/${f.replace(/\.ts$/, '.js')}`, `dist/${f.replace(/\.ts$/, '.d.ts')}`);
  assert.deepEqual(pack.files.map((f) => f.path).sort(), want.sort(), 'the files of the package; an old dist has others: remove it');
  const about = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));
  assert.deepEqual(Object.keys(about.dependencies ?? {}), [], 'the package has no dependencies');

  npm(dir, 'init', '-y');
  npm(dir, 'install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', `./${pack.filename}`);
  const node = (type, program) => execFileSync(process.execPath, [`--input-type=${type}`, '--no-warnings', '-e', program], { cwd: dir, encoding: 'utf8' }).trim().split(' ');
  const names = node('module', "import * as sdk from '@posthouse/sdk'; console.log(Object.keys(sdk).sort().join(' '));");
  for (const name of ['connect', 'fileStore', 'indexedDBStore', 'memoryStore']) assert.ok(names.includes(name), `${name} is missing`);
  assert.deepEqual(node('module', "import * as sdk from '@posthouse/sdk/node'; console.log(Object.keys(sdk).sort().join(' '));"), names);
  if (process.features.require_module) assert.deepEqual(node('commonjs', "console.log(Object.keys(require('@posthouse/sdk')).filter((n) => n !== '__esModule').sort().join(' '));"), names);

  // What a page loads, one import after another.
  const page = new Set();
  const follow = (file) => {
    if (page.has(file)) return;
    page.add(file);
    for (const [, from] of readFileSync(file, 'utf8').matchAll(/^(?:import|export) .*?from '(.*)';$|\bimport\(/gm)) {
      assert.match(from ?? 'a dynamic import', /^\.\.?\//, `${file} is for pages, and imports ${from}`);
      follow(join(dirname(file), from));
    }
  };
  follow(join(dir, 'node_modules', '@posthouse', 'sdk', about.exports['.'].default.default));
  assert.ok(page.size > 30 && ![...page].some((f) => f.includes('/node/')), [...page].join(' '));

  const everywhere = `
    import { type Client, type ClosedCode, ClosedError, connect, memoryStore, type Message, type Options } from '@posthouse/sdk';
    const o: Options = { url: 'https://localhost', token: async () => 't', store: memoryStore() };
    const c: Client = connect(o);
    c.onMessage(async (m: Message) => void m.body.length);
    c.on('state', (s) => s.reason?.code === 'lost' && s.again?.toFixed());
    c.send({ to: 'bob', body: 'x' }).then((r) => r.seq + 1, (e) => { if (e instanceof ClosedError) { const code: ClosedCode = e.code; void code; } });
    (async () => { for await (const m of c.messages()) m.seq.toFixed(); });`;
  writeFileSync(join(dir, 'page.mts'), everywhere);
  writeFileSync(join(dir, 'program.mts'), `${everywhere} import { fileStore } from '@posthouse/sdk/node'; o.store = fileStore('x');`);
  const tsc = join(here, 'node_modules', '.bin', 'tsc');
  const types = (file, module, moduleResolution, lib) =>
    execFileSync(
      tsc,
      [file, '--ignoreConfig', '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', 'false', '--target', 'es2022', '--module', module,
        '--moduleResolution', moduleResolution, '--lib', lib, ...(lib.includes('dom') ? [] : ['--typeRoots', join(here, 'node_modules', '@types'), '--types', 'node'])],
      { cwd: dir, stdio: 'inherit' },
    );
  types('page.mts', 'esnext', 'bundler', 'es2022,dom');
  types('page.mts', 'node16', 'node16', 'es2022,dom');
  types('program.mts', 'nodenext', 'nodenext', 'es2022');
  types('program.mts', 'esnext', 'bundler', 'es2022');
  console.log(`${pack.filename}: ${pack.files.length} files, ${pack.size} bytes; exports ${names.join(' ')}`);
} finally {
  rmSync(dir, { recursive: true });
}
