// What connect takes, and what comes of what listeners do.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connect, type Options } from '../src/node/index.js';
import { lost } from '../src/way.js';
import { House } from './support/house.js';
import { settle } from './support/time.js';

const good = { url: 'ws://127.0.0.1:1/link', user: 'alice', password: 'secret' };
const wrong: Record<string, Record<string, unknown>> = {
  'no URL that it is': { url: 'somewhere' },
  'a URL of another kind': { url: 'ftp://localhost' },
  'no URL at all': { url: [] },
  'no credentials': { user: undefined },
  'a size that is none': { maxMessage: NaN },
  'a size below zero': { maxMessage: -1 },
  'a heartbeat of no time': { learn: { min: 0 } },
  'a heartbeat that is to be longer than it may be': { learn: { max: 14_000 } },
  'a time that is none': { hold: 0.5 },
};
for (const [what, o] of Object.entries(wrong)) {
  test(`${what} is an error at once`, () => {
    assert.throws(() => connect({ ...good, ...o } as Options), (e) => e instanceof TypeError || e instanceof RangeError);
  });
}

test('a token that is none is asked for again', async () => {
  let asked = 0;
  const house = new House({ credentials: { token: () => Promise.resolve(++asked < 3 ? (undefined as unknown as string) : 't') } });
  const reasons: (string | undefined)[] = [];
  house.client.on('state', (s) => s.state === 'waiting' && reasons.push(s.reason?.code));
  await house.clock.pass(2000);
  assert.deepEqual([reasons, house.connections.length, house.last.login.token], [['token', 'token'], 1, 't']);
  await house.client.close();
});

test('a listener that does not want to wait makes one attempt, not two', async () => {
  const house = new House();
  house.client.on('state', (s) => s.state === 'waiting' && house.client.networkChanged());
  await settle();
  house.last.welcome();
  house.last.owner.ended(lost('reset'), []);
  await house.clock.pass(60_000);
  assert.equal(house.connections.length, 2);
  await house.client.close();
});
