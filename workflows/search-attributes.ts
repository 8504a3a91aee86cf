import { defineSearchAttributeKey } from '@temporalio/common';
import { upsertSearchAttributes } from '@temporalio/workflow';
import type { SearchAttribute } from '../domain/names.ts';

/** Sets Keyword search attributes of the running workflow, all in one history event; null takes one away. */
export function setAttributes(values: Partial<Record<SearchAttribute, string | null>>): void {
  const pairs = Object.entries(values).map(([name, value]) => ({
    key: defineSearchAttributeKey(name, 'KEYWORD'),
    value,
  }));
  upsertSearchAttributes(pairs);
}
