import { defined } from '../domain/defined.ts';

export interface PageRequest {
  readonly cursor?: string;
  readonly limit: number;
}

/** Most items that one page of the API holds. */
const PAGE = 200;

/** Reads pages of a list until `limit` items are there. @returns them, and whether the list goes on */
export async function pagedItems<Item>(
  read: (page: PageRequest) => Promise<{ readonly items: readonly Item[]; readonly next?: string }>,
  limit: number,
): Promise<{ readonly items: readonly Item[]; readonly more: boolean }> {
  const items: Item[] = [];
  let cursor: string | undefined;
  do {
    const page = await read({
      limit: Math.min(PAGE, limit - items.length),
      ...defined({ cursor }),
    });
    items.push(...page.items);
    cursor = page.next;
  } while (cursor !== undefined && items.length < limit);
  return { items: items.slice(0, limit), more: cursor !== undefined || items.length > limit };
}
