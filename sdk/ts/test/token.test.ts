// Tokens of a short life, against the real server.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { type Client, connect, type Options } from '../src/node/index.js';
import { patience, Posthouse, withoutServer } from './support/posthouse.js';

const key = 'thirty-two bytes or a few more than that';

/** A token of alice's that ends in so many milliseconds (RFC 7519). */
function token(left: number): string {
  const part = (o: object) => Buffer.from(JSON.stringify(o)).toString('base64url');
  const said = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'alice', exp: (Date.now() + left) / 1000 })}`;
  return `${said}.${createHmac('sha256', key).update(said).digest('base64url')}`;
}

const life = 15_000; // of a token: more than a machine that has other work takes to use it

// Side by side, since they wait for the most part.
describe('a token that ends soon', { skip: withoutServer, timeout: 5 * patience, concurrency: true }, () => {
  let server: Posthouse;
  const clients: Client[] = [];
  before(async () => {
    server = await Posthouse.open();
    await server.kill();
    server.args = ['--set', `auth.tokens.keys=HS256:${key}`, '--set', 'auth.tokens.leeway=1ms'];
    await server.start();
  });
  after(async () => {
    for (const c of clients) await c.close();
    await server?.close();
  });

  const client = (o: Partial<Options>): { c: Client; states: string[] } => {
    const c = connect({ url: `http://127.0.0.1:${server.http}`, device: `d${clients.length}`, ...o });
    const states: string[] = [];
    c.on('state', (s) => states.push(`${s.state} ${s.reason?.code ?? ''}`));
    c.onMessage(() => {});
    clients.push(c);
    return { c, states };
  };
  const refused = class {
    constructor() {
      throw new Error('forbidden');
    }
  } as unknown as NonNullable<Options['WebSocket']>;

  test('is renewed, and the connection stays', async () => {
    let asked = 0;
    let renewed = () => {};
    const twice = new Promise<void>((resolve) => (renewed = resolve));
    const { c, states } = client({
      token: () => {
        if (++asked === 3) renewed();
        return token(life);
      },
    });
    await twice; // the first has ended since
    await c.send({ to: 'bob', body: 'still here' });
    assert.deepEqual(states, ['connecting ', 'online ']);
  });

  for (const [way, WebSocket] of [['websocket', undefined], ['poll', refused]] as const) {
    test(`by ${way}, and nobody renews it`, async () => {
      const { c } = client({ token: token(life), ...(WebSocket ? { WebSocket } : {}) });
      await c.connected();
      assert.equal(c.state.way, way);
      const closed = new Promise<string | undefined>((resolve) => c.on('state', (s) => s.state === 'closed' && resolve(s.reason?.code)));
      if (way === 'poll') {
        // A request that is held does not end with its token; the next one does.
        const again = setInterval(() => c.networkChanged(), 100);
        void closed.then(() => clearInterval(again));
      }
      assert.equal(await closed, 'expired');
    });

    test(`by ${way}, has ended before it was used, and the next has not`, async () => {
      let asked = 0;
      const { c, states } = client({ token: () => token(++asked <= 2 ? -1000 : 60_000), ...(WebSocket ? { WebSocket } : {}) });
      await c.connected();
      assert.ok(states.includes('waiting expired'), states.join(', '));
    });
  }
});
