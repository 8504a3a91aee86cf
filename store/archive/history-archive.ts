/**
 * Histories of finished workflows: each execution's events as compressed JSON with its own document, and one
 * document for the whole, written last. Bytes are written before documents, so that whatever a document names exists.
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import {
  type ExecutionDocument,
  type ExecutionHistory,
  executionDocumentSchema,
  type HistoryDocument,
  historyDocumentSchema,
  recorderPositionSchema,
} from '../../contracts/store/archive.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../object-store.ts';
import { writeOnce } from '../write-once.ts';

/** Temporal itself takes histories up to 50 MiB. */
const MAX_JSON_BYTES = 256 * 1024 * 1024;
const MAX_STORED_BYTES = 64 * 1024 * 1024;
const WRITE_TRIES = 5;

const zip = promisify(gzip);
const unzip = promisify(gunzip);

/** One execution as it was archived. */
export interface ArchivedExecution {
  readonly executionId: string;
  readonly events: number;
  /** Parsed but not checked: the caller has to check it. */
  readonly history: unknown;
}

export interface HistoryArchive {
  /** The record of one execution; undefined where there is none. */
  execution(workflowId: string, executionId: string): Promise<ExecutionDocument | undefined>;
  /** Events first, then their document; may be repeated. */
  saveExecution(history: ExecutionHistory): Promise<ExecutionDocument>;
  /** @returns undefined where the whole history is not there */
  whole(workflowId: string): Promise<HistoryDocument | undefined>;
  /** Says that these executions are the whole history; a later end replaces the recorded one. */
  saveWhole(workflowId: string, executions: readonly ExecutionDocument[]): Promise<void>;
  /**
   * The whole history, each execution's bytes checked against its document.
   * @returns undefined where it was not recorded @throws ARCHIVE_CORRUPT
   */
  read(workflowId: string): Promise<ArchivedExecution[] | undefined>;
  /**
   * One execution and all earlier ones that it continues, the first one first.
   * @returns undefined where not all of them are recorded @throws ARCHIVE_CORRUPT
   */
  readUpTo(workflowId: string, executionId: string): Promise<ArchivedExecution[] | undefined>;
  /** ISO 8601; undefined where it is unknown or unreadable. */
  position(): Promise<string | undefined>;
  savePosition(closedBefore: string): Promise<void>;
}

/** @param clock milliseconds since 1970 @returns the archive in a store. Every method @throws STORE_UNAVAILABLE */
export function createHistoryArchive(store: ObjectStore, clock: () => number = Date.now): HistoryArchive {
  const execution = async (workflowId: string, executionId: string) =>
    (await store.readDocument(storeKeys.archivedExecution(workflowId, executionId), executionDocumentSchema))?.value;
  const whole = async (workflowId: string) =>
    (await store.readDocument(storeKeys.archivedHistory(workflowId), historyDocumentSchema))?.value;
  return {
    execution,
    whole,
    saveExecution: (history) => saveExecution(store, history, clock),
    saveWhole: (workflowId, executions) => saveWhole(store, workflowId, executions, clock),
    read: async (workflowId) => {
      const document = await whole(workflowId);
      if (document === undefined || document.deletedAt !== undefined) return undefined;
      const read: ArchivedExecution[] = [];
      for (const part of document.executions) read.push(await readExecution(store, workflowId, part));
      return read;
    },
    readUpTo: async (workflowId, executionId) => {
      const read: ArchivedExecution[] = [];
      for (let next: string | undefined = executionId; next !== undefined; ) {
        const document: ExecutionDocument | undefined = await execution(workflowId, next);
        if (document === undefined) return undefined;
        read.unshift(await readExecution(store, workflowId, document));
        next = document.continuedFrom;
      }
      return read;
    },
    position: async () => {
      try {
        return (await store.readDocument(storeKeys.recorderPosition, recorderPositionSchema))?.value.closedBefore;
      } catch (error) {
        // It only saves work: without it everything is read again.
        if (isKilnError(error, 'STORE_CONFLICT')) return undefined;
        throw error;
      }
    },
    savePosition: async (closedBefore) => {
      await store.writeDocument(storeKeys.recorderPosition, { schemaVersion: 1, closedBefore });
    },
  };
}

async function saveExecution(
  store: ObjectStore,
  { json, ...facts }: ExecutionHistory,
  clock: () => number,
): Promise<ExecutionDocument> {
  const data = await zip(json);
  const sha256 = createHash('sha256').update(data).digest('hex');
  // Named by its digest: another recorder of this execution writes beside it, not over it, even in another form.
  await store.putBlob(storeKeys.archivedEvents(facts.workflowId, facts.executionId, sha256), { data });
  const recordedAt = new Date(clock()).toISOString();
  const document: ExecutionDocument = { schemaVersion: 1, ...facts, sha256, bytes: data.length, recordedAt };
  const key = storeKeys.archivedExecution(facts.workflowId, facts.executionId);
  if (await writeOnce(store, key, document)) return document;
  return (await store.readDocument(key, executionDocumentSchema))?.value ?? document;
}

async function saveWhole(
  store: ObjectStore,
  workflowId: string,
  executions: readonly ExecutionDocument[],
  clock: () => number,
): Promise<void> {
  const key = storeKeys.archivedHistory(workflowId);
  const document: HistoryDocument = {
    schemaVersion: 1,
    workflowId,
    executions: executions.map(({ executionId, events, sha256, bytes }) => ({ executionId, events, sha256, bytes })),
    recordedAt: new Date(clock()).toISOString(),
  };
  const last = executions.at(-1)?.executionId;
  for (let tries = 1; ; tries++) {
    const standing = await store.readDocument(key, historyDocumentSchema);
    if (standing?.value.deletedAt !== undefined) return;
    if (standing?.value.executions.at(-1)?.executionId === last) return;
    try {
      await store.writeDocument(key, document, standing === undefined ? 'create' : { etag: standing.etag });
      return;
    } catch (error) {
      if (!isKilnError(error, 'STORE_CONFLICT') || tries >= WRITE_TRIES) throw error;
    }
  }
}

async function readExecution(
  store: ObjectStore,
  workflowId: string,
  { executionId, events, sha256 }: HistoryDocument['executions'][number],
): Promise<ArchivedExecution> {
  const key = storeKeys.archivedEvents(workflowId, executionId, sha256);
  const data = await store.readBlob(key, MAX_STORED_BYTES).catch((error: unknown) => {
    const isDamaged = isKilnError(error, 'NOT_FOUND', 'IMAGE_CORRUPT');
    throw isDamaged ? corrupt(workflowId, `${key} is missing or damaged`) : error;
  });
  if (createHash('sha256').update(data).digest('hex') !== sha256) throw corrupt(workflowId, `${key} was changed`);
  try {
    const text = (await unzip(data, { maxOutputLength: MAX_JSON_BYTES })).toString('utf8');
    const history: unknown = JSON.parse(text);
    return { executionId, events, history };
  } catch {
    throw corrupt(workflowId, `${key} cannot be read`);
  }
}

function corrupt(workflowId: string, what: string): KilnError {
  return new KilnError('ARCHIVE_CORRUPT', `The archived history of ${workflowId} is not what was recorded: ${what}.`, {
    workflowId,
  });
}
