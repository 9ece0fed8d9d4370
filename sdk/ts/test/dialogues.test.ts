import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { here } from './support/paths.js';
import { Stage } from './support/stage.js';

const dir = join(here, 'test', 'dialogues');
for (const file of readdirSync(dir)) {
  test(`dialogue ${file.replace('.txt', '')}`, () => new Stage().run(readFileSync(join(dir, file), 'utf8')));
}
