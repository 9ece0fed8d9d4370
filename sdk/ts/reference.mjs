// Writes the reference of the API, docs/sdk-typescript-reference.md, from the
// declarations in dist: what the package exports, with its comments.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const out = new URL('../../docs/sdk-typescript-reference.md', import.meta.url);
const dist = new URL('dist/', import.meta.url).pathname;

/** The declarations of a file, by name, each with the comment before it. */
function declarations(file) {
  const found = new Map();
  const text = readFileSync(file, 'utf8');
  const one = /((?:^\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n)?)^export (?:declare )?(?:abstract )?(class|interface|type|function|const) (\w+)[\s\S]*?(?:;\n|^\}\n)/gm;
  for (const m of text.matchAll(one)) {
    let end = m.index + m[0].length;
    // A type or a class goes on to the brace in the first column.
    if (m[0].slice(m[1].length).split('\n', 1)[0].endsWith('{')) end = text.indexOf('\n}', m.index + m[1].length) + (text[text.indexOf('\n}', m.index + m[1].length) + 2] === ';' ? 4 : 3);
    found.set(m[3], { kind: m[2], text: text.slice(m.index, end).trimEnd() });
  }
  return found;
}

/** What a module exports, by name: where it is declared. */
function exported(file, seen = new Map()) {
  const text = readFileSync(file, 'utf8');
  for (const [name, d] of declarations(file)) if (!seen.has(name)) seen.set(name, d);
  for (const m of text.matchAll(/^export (?:type )?(\*|\{[^}]*\})(?: from '(.*)')?;/gm)) {
    if (!m[2]) continue;
    const from = join(dirname(file), m[2].replace(/\.js$/, '.d.ts'));
    if (m[1] === '*') {
      exported(from, seen);
      continue;
    }
    for (const name of m[1].replaceAll(/[{}]|\btype /g, '').split(',').map((s) => s.trim()).filter(Boolean)) {
      const d = find(from, name);
      if (!d) throw new Error(`${name} is exported and not declared in ${from}`);
      if (!seen.has(name)) seen.set(name, d);
    }
  }
  return seen;
}

/** A declaration in a file, or where the file has it from. */
function find(file, name) {
  const own = declarations(file).get(name);
  if (own || !existsSync(file)) return own;
  for (const m of readFileSync(file, 'utf8').matchAll(/^import (?:type )?\{([^}]*)\} from '(.*)';/gm)) {
    if (m[1].split(',').some((s) => s.trim().replace(/^type /, '') === name)) return find(join(dirname(file), m[2].replace(/\.js$/, '.d.ts')), name);
  }
  return undefined;
}

const all = [...exported(join(dist, 'node', 'index.d.ts'))];
const rank = { function: 0, const: 0, class: 1, interface: 2, type: 3 };
all.sort(([a, x], [b, y]) => rank[x.kind] - rank[y.kind] || (a < b ? -1 : 1));

const parts = [
  `# Reference of the TypeScript SDK

Everything that \`@posthouse/sdk\` exports. \`fileStore\` is there in Node alone. How it is used is in
[The TypeScript SDK](sdk-typescript.md). Generated from the sources by \`npm run reference\`.
`,
];
for (const [name, { text }] of all) {
  const code = text
    .replace(/^export (declare )?/m, '')
    .split('\n')
    .filter((l) => !/^ +#private;$|^ +constructor\(o: ClientOptions/.test(l))
    .join('\n');
  parts.push(`## ${name}\n\n\`\`\`ts\n${code}\n\`\`\`\n`);
}
writeFileSync(out, parts.join('\n'));
