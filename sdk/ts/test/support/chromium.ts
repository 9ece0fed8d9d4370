// Headless Chromium, which asks nobody but the tests.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';

import { here } from './paths.js';
import { missing, patience } from './posthouse.js';

const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium';

export const withoutChromium = missing(`Chromium (${executablePath})`, existsSync(executablePath));

export function launch(...more: string[]): Promise<Browser> {
  const args = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ];
  return chromium.launch({ executablePath, args: [...args, ...more], timeout: patience });
}

/** For a browser that is to use serve: what is served so is not known to come from this machine. */
export const served = '--disable-features=LocalNetworkAccessChecks';

/** A context whose pages may take their time. */
export async function contextOf(browser: Browser): Promise<BrowserContext> {
  const context = await browser.newContext();
  context.setDefaultTimeout(patience);
  return context;
}

/** Waits until what is in a part of a page's store is as it should be. The page must have opened the store. */
export async function rows(page: Page, store: string, part: 'state' | 'outbox', ok: (rows: unknown[]) => boolean): Promise<void> {
  for (const late = Date.now() + patience; ; ) {
    const all = await page.evaluate(
      ([store, part]) =>
        new Promise<unknown[]>((resolve, reject) => {
          const open = indexedDB.open(`posthouse:${store}`);
          open.onerror = () => reject(open.error);
          open.onsuccess = () => {
            const get = open.result.transaction(part).objectStore(part).getAll();
            open.result.close(); // when that is there
            get.onerror = () => reject(get.error);
            get.onsuccess = () => resolve(get.result as unknown[]);
          };
        }),
      [store, part] as const,
    );
    if (ok(all)) return;
    assert.ok(Date.now() < late, `${part} is still ${JSON.stringify(all)}`);
  }
}

/** Has every origin an empty page, at /page.html, and the SDK below /sdk. */
export async function serve(context: BrowserContext): Promise<void> {
  await context.route(/\/(page\.html|sdk\/.*)$/, (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === '/page.html') return route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>test</title>' });
    return route.fulfill({ contentType: 'text/javascript', body: readFileSync(join(here, 'build', 'src', pathname.slice('/sdk/'.length)), 'utf8') });
  });
}
