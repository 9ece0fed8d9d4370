// Headless Chromium, which asks nobody but the tests.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, type BrowserContext, chromium } from 'playwright-core';

import { here } from './paths.js';
import { missing } from './posthouse.js';

const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium';

export const withoutChromium = missing(`Chromium (${executablePath})`, existsSync(executablePath));

export function launch(...more: string[]): Promise<Browser> {
  const args = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ];
  return chromium.launch({ executablePath, args: [...args, ...more] });
}

/** For a browser that is to use serve: what is served so is not known to come from this machine. */
export const served = '--disable-features=LocalNetworkAccessChecks';

/** Has every origin an empty page, at /page.html, and the SDK below /sdk. */
export async function serve(context: BrowserContext): Promise<void> {
  await context.route(/\/(page\.html|sdk\/.*)$/, (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === '/page.html') return route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>test</title>' });
    return route.fulfill({ contentType: 'text/javascript', body: readFileSync(join(here, 'build', 'src', pathname.slice('/sdk/'.length)), 'utf8') });
  });
}
