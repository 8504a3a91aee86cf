/** Requests that wait for capacity: one small object each, whose name holds everything, so one listing is the line. */
import { z } from 'zod';
import { workloadIdSchema } from '../../contracts/identifiers.ts';
import { PRIORITIES } from '../../domain/capacity/priority.ts';
import type { WaitingRequest } from '../../domain/capacity/waiting-line.ts';
import { storeKeys } from '../../domain/names.ts';
import type { WaitingLine } from '../../ports/documents.ts';
import type { ListedObject, ObjectStore } from '../object-store.ts';

const NAME = /^(\d)-(\d{1,15})-(\d{1,6})-(\d{1,9})-(.+)$/;

const waiting = z.object({
  priority: z.literal(PRIORITIES),
  sinceMs: z.int(),
  resources: z.object({ vcpus: z.int(), memMib: z.int() }),
  workloadId: workloadIdSchema,
});

/** @returns the line in a store. @throws STORE_UNAVAILABLE */
export function createWaitingLine(store: ObjectStore): WaitingLine {
  return {
    async list() {
      const line: { request: WaitingRequest; seenMs: number }[] = [];
      for await (const object of store.listAll(storeKeys.waitingLine)) {
        const request = parse(object);
        if (request !== undefined) line.push({ request, seenMs: object.modifiedMs });
      }
      return line;
    },
    join: async (request) => void (await store.writeDocument(keyOf(request), {})),
    async leave(workloadId) {
      for await (const object of store.listAll(storeKeys.waitingLine)) {
        if (parse(object)?.workloadId === workloadId) await store.delete(object.key);
      }
    },
  };
}

function keyOf({ priority, sinceMs, resources, workloadId }: WaitingRequest): string {
  return `${storeKeys.waitingLine}${priority}-${sinceMs}-${resources.vcpus}-${resources.memMib}-${workloadId}`;
}

/** @returns undefined for a name that is not ours */
function parse({ key }: ListedObject): WaitingRequest | undefined {
  const found = NAME.exec(key.slice(storeKeys.waitingLine.length));
  if (found === null) return undefined;
  const [priority = 0, sinceMs, vcpus, memMib] = found.slice(1, 5).map(Number);
  const parsed = waiting.safeParse({ priority, sinceMs, resources: { vcpus, memMib }, workloadId: found[5] });
  return parsed.success ? parsed.data : undefined;
}
