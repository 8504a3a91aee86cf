import { readdir } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { ROUTES } from '../../../contracts/api/routes/route-table.ts';

it('every route of every resource is in the table, under a name of its own', async () => {
  const folder = new URL('../../../contracts/api/routes/', import.meta.url);
  const names: string[] = [];
  for (const file of await readdir(folder)) {
    if (file === 'route.ts' || file === 'route-table.ts') continue;
    const [routes]: object[] = Object.values(await import(new URL(file, folder).href));
    names.push(...Object.keys(routes ?? {}));
  }
  expect(names.sort()).toEqual(Object.keys(ROUTES).sort());
});

it('no two routes answer for the same method and path', () => {
  const places = Object.values(ROUTES).map(({ method, path }) => `${method} ${path}`);
  expect(new Set(places).size).toBe(places.length);
});
