// The devices of an account.

import { malformed, Reader, Writer } from './bytes.js';
import { unword, word } from './codes.js';

/** Asks for the user's devices, and before that has one removed. */
export interface Devices {
  type: 'devices';
  /** Empty: none. */
  forget: string;
}

/** Answers Devices. The one seen last comes first. */
export interface DeviceList {
  type: 'devicelist';
  devices: { name: string; way: string; seen: number; behind: number }[];
}

/** By which a device is connected, if it is: the number on the wire is the index. */
export const wayWords = ['', 'link', 'poll', 'xmpp', 'mqtt'] as const;

export function writeDeviceList(w: Writer, f: DeviceList): void {
  for (const d of f.devices) {
    w.string(d.name);
    w.uvarint(unword(wayWords, d.way) ?? 0);
    w.uvarint(d.seen);
    w.uvarint(d.behind);
  }
}

export function readDeviceList(r: Reader): DeviceList {
  const f: DeviceList = { type: 'devicelist', devices: [] };
  while (r.left > 0) {
    const name = r.string();
    if (name === '') throw malformed('device without a name');
    const way = r.uvarint();
    f.devices.push({ name, way: way === 0 ? '' : word(wayWords, way), seen: r.uvarint(), behind: r.uvarint() });
  }
  return f;
}
