// The phone with the TypeScript SDK, in Node: what phone_test.go is with the Go
// SDK, told the same in NAT_LAB_ROLE, and saying the same. What it has learned
// it sees in what is said on the wire.

import { createInterface } from 'node:readline';

import { connect } from '../../sdk/ts/dist/node/index.js';

const role = JSON.parse(process.env.NAT_LAB_ROLE);
const nanos = 1e6; // in a millisecond
const stats = { Network: role.Heartbeat ? 'beats' : 'carrier', Interval: 0, Finding: {}, Settled: false, Heartbeats: 0, Reconnects: -1, Moves: 0, Probes: 0 };

const tell = (what, more) => console.log(JSON.stringify({ What: what, At: new Date().toISOString(), ...more }));

/** Reads 4m30s, in nanoseconds. */
const nanoseconds = (text) =>
  [...text.matchAll(/([0-9.]+)(ms|[hms])/g)].reduce((sum, [, n, unit]) => sum + Number(n) * { ms: 1, s: 1e3, m: 60e3, h: 3600e3 }[unit] * nanos, 0);

function trace(line) {
  const field = (name) => new RegExp(` ${name}=(\\S+)`).exec(line)?.[1];
  if (line.startsWith('probe C: HELLO') && field('probe') !== '1s') stats.Probes++;
  if (line.startsWith('C: PING')) stats.Heartbeats++;
  if (/^S: (WELCOME|SET)/.test(line) && field('interval')) stats.Interval = nanoseconds(field('interval'));
  if (line.startsWith('C: SET') && field('good')) {
    stats.Settled = true;
    stats.Finding = { Good: nanoseconds(field('good')), Bad: nanoseconds(field('bad') ?? '') };
  }
}

const between = role.Heartbeat ? { min: role.Heartbeat / nanos, max: role.Heartbeat / nanos } : { min: role.Min / nanos, max: role.Max / nanos };
const client = connect({ url: `links://${role.Addr}`, user: role.User, password: 'secret', device: role.Device, network: stats.Network, learn: between, trace });
if (role.Heartbeat) client.setBackground(true); // where it beats as it does and tries out nothing
const send = (text) => {
  const begin = performance.now();
  client.send({ to: role.To, body: text }).then(
    () => tell('stored', { Text: text, Took: `${performance.now() - begin}ms` }),
    (e) => tell('error', { Text: String(e) }),
  );
};
client.on('state', (s) => {
  if (s.state === 'online' && ++stats.Reconnects === 0) tell('open');
  if (s.state === 'closed') process.exit(s.reason.code === 'done' ? 0 : 1);
});
client.on('error', (e) => tell('error', { Text: String(e) }));
client.onMessage((m) => {
  tell('got', { Text: m.body });
  if (role.Echo) send('re ' + m.body.trim());
});
setInterval(() => tell('stats', { St: stats }), 250);

const moved = 'network: ';
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (!line.startsWith(moved)) return send(line);
    stats.Network = line.slice(moved.length);
    client.networkChanged(stats.Network);
  })
  .on('close', () => void client.close());
