import { expect, it } from 'vitest';
import { foldersBelow } from '../../../store/folders-below.ts';
import { createMemoryStore } from '../../support/saves/memory-store.ts';

async function all(from: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const folder of from) found.push(folder);
  return found;
}

it('tells each folder once, over several pages, also behind one', async () => {
  const store = createMemoryStore();
  const names = Array.from({ length: 50 }, (_, n) => `f${String(n).padStart(2, '0')}`);
  for (const name of names) for (const file of ['a', 'b/c']) store.objects.set(`top/${name}/${file}`, Buffer.from(''));
  store.objects.set('top/file', Buffer.from(''));
  const folders = names.map((name) => `top/${name}/`);
  expect(await all(foldersBelow(store, 'top/'))).toEqual(folders);
  expect(await all(foldersBelow(store, 'top/', 'top/f07/'))).toEqual(folders.slice(8));
  expect(await all(foldersBelow(store, 'none/'))).toEqual([]);
});
