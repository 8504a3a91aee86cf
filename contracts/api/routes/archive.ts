/** Routes of the archive. */
import { z } from 'zod';
import { recordReplySchema } from '../maintenance.ts';
import { MAX_WAIT_MS, type Route } from './route.ts';

export const ARCHIVE_ROUTES = {
  recordArchive: {
    method: 'POST',
    path: '/api/archive/record',
    tag: 'service',
    summary: 'Archive now what is over',
    description:
      'One run of what the Schedule `kiln-maintenance` does again and again: the whole history of each workload that is over goes to the archive, and hosts say what they have freed. Removes nothing. 202 where it takes longer than `waitMs`; it goes on. Two callers at a time share one run.',
    body: z.strictObject({ waitMs: z.int().min(0).max(MAX_WAIT_MS).default(MAX_WAIT_MS) }).prefault({}),
    responses: { 200: recordReplySchema, 202: recordReplySchema },
  },
} as const satisfies Record<string, Route>;
