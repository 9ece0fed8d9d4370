// Packs the package as npm publish would, and looks whether what is in it is
// what should be: installed in an empty directory it must load there.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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
  const program = "import * as sdk from '@posthouse/sdk'; console.log(Object.keys(sdk).sort().join(' '));";
  const names = execFileSync(process.execPath, ['--input-type=module', '-e', program], { cwd: dir, encoding: 'utf8' }).trim().split(' ');
  for (const name of ['connect', 'fileStore', 'indexedDBStore', 'memoryStore']) assert.ok(names.includes(name), `${name} is missing`);
  console.log(`${pack.filename}: ${pack.files.length} files, ${pack.size} bytes; exports ${names.join(' ')}`);
} finally {
  rmSync(dir, { recursive: true });
}
