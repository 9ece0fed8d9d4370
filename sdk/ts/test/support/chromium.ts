// Headless Chromium, which asks nobody but the tests.

import { existsSync } from 'node:fs';

import { type Browser, chromium } from 'playwright-core';

import { missing } from './posthouse.js';

const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium';

export const withoutChromium = missing(`Chromium (${executablePath})`, existsSync(executablePath));

export function launch(...more: string[]): Promise<Browser> {
  const args = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ];
  return chromium.launch({ executablePath, args: [...args, ...more] });
}
