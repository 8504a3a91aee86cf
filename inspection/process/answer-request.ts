/** Carries out one request about a stranger's folder, in the process that reads such folders. */

import { open } from 'node:fs/promises';
import {
  FOLDER_FAILURES,
  type InspectionAnswer,
  type InspectionRequest,
  MAX_DETAIL,
  MAX_DETAIL_LIST,
  MAX_FAILURE_MESSAGE,
} from '../../contracts/service/inspection-messages.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, type KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import { unpackFolder } from '../../sources/unpack-folder.ts';
import { findServiceFolder } from '../folders/service-folder.ts';
import { inspectService } from '../folders/service-inspection.ts';
import { packService } from '../folders/service-packing.ts';

const NO_MEMORY = ['ERR_MEMORY_ALLOCATION_FAILED', 'ENOMEM'];

/** Carries out a request. Never throws: every failure is an answer, cut to the limits of a reply. */
export async function answerRequest(request: InspectionRequest): Promise<InspectionAnswer> {
  const { id } = request;
  try {
    if (request.tarPath !== undefined) await unpack(request.tarPath, request);
    const folder = await findServiceFolder(request.root, request.servicePath);
    if (request.act === 'inspect') {
      return { kind: 'inspected', id, manifest: await inspectService(folder, request.servicePath) };
    }
    return { kind: 'packed', id, ...(await packService(folder, request.packedPath, request.limits)) };
  } catch (error) {
    return failureAnswer(id, error);
  }
}

async function unpack(tarPath: string, { root, limits }: InspectionRequest): Promise<void> {
  const handle = await open(tarPath, 'r');
  await unpackFolder(handle.createReadStream(), root, limits);
}

function failureAnswer(id: number, error: unknown): InspectionAnswer {
  const code = isKilnError(error) ? FOLDER_FAILURES.find((known) => known === error.code) : undefined;
  if (isKilnError(error) && code !== undefined) {
    return {
      kind: 'refused',
      id,
      code,
      message: error.message.slice(0, MAX_FAILURE_MESSAGE),
      details: detailsOf(error),
    };
  }
  // A stack overflow, or a string or buffer that is too long: what was read has caused all of these.
  if (error instanceof RangeError || isErrno(error, ...NO_MEMORY)) return { kind: 'exhausted', id };
  const message = (error instanceof Error ? error.message : String(error)).slice(0, MAX_FAILURE_MESSAGE);
  const errno = error instanceof Error && 'code' in error ? String(error.code).slice(0, 64) : undefined;
  return { kind: 'failed', id, message, ...defined({ errno }) };
}

type Details = Extract<InspectionAnswer, { kind: 'refused' }>['details'];

function detailsOf({ details }: KilnError): Details {
  const kept: Details = {};
  for (const [name, value] of Object.entries(details)) {
    if (typeof value === 'string') kept[name] = value.slice(0, MAX_DETAIL);
    else if (typeof value === 'number' || typeof value === 'boolean') kept[name] = value;
    else if (Array.isArray(value)) {
      kept[name] = value.slice(0, MAX_DETAIL_LIST).map((item) => String(item).slice(0, MAX_DETAIL));
    }
  }
  return kept;
}
