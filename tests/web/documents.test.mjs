// Walks of the documents tab against the FAKE gateway: search, tags, selection, names, versions, relations, PDF, questions; axe and screenshots.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { axeFindings, LIMIT, open, PHONE, SHOTS, stage, WIDE } from './browser.mjs';

const { browser, fake } = await stage({ seed: true });

/** A PDF of one line per page, made by hand. */
function pdf(...pages) {
  const objects = ['<< /Type /Catalog /Pages 2 0 R >>', `<< /Type /Pages /Count ${pages.length} /Kids [${pages.map((_, i) => `${4 + 2 * i} 0 R`).join(' ')}] >>`, '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>'];
  pages.forEach((text, i) => {
    const stream = `BT /F1 24 Tf 72 700 Td (${text}) Tj ET`;
    objects.push(`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents ${5 + 2 * i} 0 R /Resources << /Font << /F1 3 0 R >> >> >>`, `<< /Length ${stream.length} >>\nstream\n${stream}\nendstream`);
  });
  let out = '%PDF-1.4\n';
  const at = objects.map((o, i) => {
    const place = out.length;
    out += `${i + 1} 0 obj\n${o}\nendobj\n`;
    return place;
  });
  const xref = out.length;
  out += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${at.map((p) => `${String(p).padStart(10, '0')} 00000 n \n`).join('')}trailer << /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${xref}\n%%EOF\n`;
  return Buffer.from(out);
}

async function enter(page) {
  await page.goto(`${fake.url}/#token=${fake.token}`);
  await page.waitForSelector('.side', { state: 'attached' });
  await page.goto(`${fake.url}/d`);
  await page.waitForSelector('.doc-table');
}

test('search as you type, with highlights that cannot act', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page);
  await page.setInputFiles('[data-upload]', [{ name: 'trap.txt', mimeType: 'text/plain', buffer: Buffer.from('before <img src=x onerror="window.hacked=1"> zanzibar & after') }]);
  await page.waitForSelector('.doc-name:has-text("trap.txt")');
  await page.locator('.docs-head [type=search]').pressSequentially('zanzi');
  await page.waitForSelector('.hits mark');
  assert.equal(await page.textContent('.hits mark'), 'zanzi');
  assert.match(await page.textContent('.hits p'), /<img src=x/);
  assert.equal(await page.$('.hits img'), null);
  await page.click('.hits .doc-name');
  await page.waitForSelector('.preview h2:has-text("trap.txt")');
  await page.fill('.docs-head [type=search]', 'nowhere-to-be-found');
  await page.waitForSelector('.docs-list .blank');
  await page.click('.blank >> text=Clear filters');
  await page.waitForSelector('.doc-table');
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.deepEqual(faults, []);
});

test('tags by keyboard, many at once, sorts, rename, versions, relations, checksum', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page);
  const combo = page.locator('.docs-tags [role=combobox]');
  await combo.focus();
  await page.waitForSelector('.docs-tags [role=option] .n');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.docs-tags .chip');
  await page.click('.docs-tags >> text=Clear filters');
  await page.check('.doc-table thead input');
  const rows = await page.locator('.doc-table tbody tr').count();
  await page.waitForSelector(`.bulk >> text=${rows} selected`);
  await page.fill('.bulk [aria-label="Add a tag"]', 'all-of-them');
  await page.keyboard.press('Enter');
  await page.waitForFunction((n) => [...document.querySelectorAll('.doc-table .chip')].filter((c) => c.textContent === 'all-of-them').length === n, rows);
  await page.click('.bulk [aria-label="Clear selection"]');
  await page.waitForSelector('.bulk', { state: 'detached' });
  await page.selectOption('.sort select', 'filename');
  await page.waitForSelector('.doc-table');
  await page.click('.doc-name >> nth=0');
  await page.click('.preview [aria-label="Rename"]');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('renamed.txt');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.preview h2:has-text("renamed.txt")');
  await page.click('.unfold summary >> nth=0');
  await page.waitForSelector('.versions li >> text=v1');
  const [version] = await Promise.all([page.waitForEvent('download'), page.click('[aria-label="Download version 1"]')]);
  assert.equal(version.suggestedFilename(), 'renamed.txt');
  await page.click('.unfold summary >> nth=1');
  await page.fill('.relate [type=search]', 'a');
  await page.click('.relate li button >> nth=0');
  await page.waitForSelector('.versions .chip:has-text("Related")');
  await page.click('.versions [aria-label^="Remove the relation"]');
  await page.waitForSelector('.versions .chip', { state: 'detached' });
  await page.click('[aria-label="Copy checksum"]');
  await page.waitForSelector('.toast');
  assert.deepEqual(faults, []);
});

test('a PDF is drawn, a broken one is not', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page);
  await page.setInputFiles('[data-upload]', [{ name: 'two.pdf', mimeType: 'application/pdf', buffer: pdf('First page', 'Second page') }, { name: 'torn.pdf', mimeType: 'application/pdf', buffer: Buffer.from('%PDF-1.4 torn') }]);
  await page.click('.doc-name:has-text("two.pdf")');
  await page.waitForSelector('.pdf[data-drawn="2"]');
  const dark = await page.$eval('.pdf canvas', (c) => {
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let i = 0; i < d.length; i += 4) n += d[i] < 128 && d[i + 3] > 0;
    return n;
  });
  assert.ok(dark > 200, `${dark} dark pixels: the text was drawn`);
  await page.click('.doc-name:has-text("torn.pdf")');
  await page.waitForSelector('.preview .blank');
  assert.deepEqual(faults, []);
});

test('a question is answered with its sources; pages of fifty', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page);
  await page.click('.docs-head >> text=Ask');
  await page.fill('.ask textarea', 'What is the answer?');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.answer .cite');
  assert.match(await page.textContent('.answer'), /<b>/);
  await page.waitForSelector('.sources li[data-cited="true"]');
  await page.fill('.ask textarea', 'nothing');
  await page.click('.ask [type=submit]');
  await page.waitForSelector('.answer.none');
  await page.click('.docs-head >> text=Ask');
  await page.setInputFiles('[data-upload]', Array.from({ length: 55 }, (_, i) => ({ name: `page-${i}.txt`, mimeType: 'text/plain', buffer: Buffer.from(`text ${i}`) })));
  await page.waitForSelector('.pager');
  await page.waitForFunction(() => document.querySelectorAll('.doc-table tbody tr').length === 50 && document.querySelectorAll('.uploads li[data-state="running"]').length === 0, null, { timeout: 60_000 });
  await page.click('[aria-label="Next page"]');
  await page.waitForFunction(() => document.querySelectorAll('.doc-table tbody tr').length < 50);
  assert.deepEqual(faults, []);
});

for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
  for (const colorScheme of ['light', 'dark']) {
    test(`axe finds nothing serious in documents, ${size} ${colorScheme}; screenshots are kept`, LIMIT, async (t) => {
      const { page, faults } = await open(browser, t, { viewport, colorScheme, reducedMotion: 'reduce' });
      const found = [];
      const look = async (name) => {
        await page.screenshot({ path: path.join(SHOTS, `${name}-${size}-${colorScheme}.png`) });
        found.push(...(await axeFindings(page)).map((f) => `${name}: ${f}`));
      };
      await enter(page);
      await page.click('.docs-tags [role=combobox]');
      await look('documents-tags');
      await page.keyboard.press('Escape');
      await page.check('.doc-table tbody input >> nth=0');
      await look('documents-selected');
      await page.click('.bulk [aria-label="Clear selection"]');
      await page.fill('.docs-head [type=search]', 'order');
      await page.waitForSelector('.hits li');
      await look('documents-search');
      await page.fill('.docs-head [type=search]', '');
      await page.waitForSelector('.doc-table');
      await page.click('.docs-head >> text=Ask');
      await page.fill('.ask textarea', 'Who still owes us money?');
      await page.keyboard.press('Enter');
      await page.waitForSelector('.sources');
      await look('documents-ask');
      await page.click('.docs-head >> text=Ask');
      await page.click('.doc-name >> nth=0');
      await page.waitForSelector('.preview .facts');
      await page.click('.unfold summary >> nth=0');
      await page.click('.unfold summary >> nth=1');
      await page.waitForSelector('.versions li');
      await look('documents-preview');
      assert.deepEqual(found, []);
      assert.deepEqual(faults, []);
    });
  }
}
