/** Reading of strangers' folders: hosts do it in a limited process, others in their own process. */

import type { InspectionAnswer, InspectionRequest } from '../contracts/service/inspection-messages.ts';
import { defined } from '../domain/defined.ts';
import { KilnError } from '../domain/failures.ts';
import type { ServiceManifest } from '../domain/workload/workload.ts';
import type { PackedService } from './folders/service-packing.ts';
import { answerRequest } from './process/answer-request.ts';

type Work<Act extends InspectionRequest['act']> = Omit<Extract<InspectionRequest, { act: Act }>, 'id' | 'act'>;
export type InspectWork = Work<'inspect'>;
export type PackWork = Work<'pack'>;

/** Who asks for the reading. */
export interface Asker {
  /** Owners are served in turn. */
  readonly owner: string;
  /** Cancels the work: at once where it waits; where it runs, by ending its process. */
  readonly signal?: AbortSignal | undefined;
}

export interface Inspections {
  /**
   * Reads and checks a service.
   * @throws SPEC_INVALID, SERVICE_NOT_FOUND, MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED,
   *   PAYLOAD_TOO_LARGE, INSPECTION_LIMIT; an error without a code where the service is not the cause
   */
  inspect(work: InspectWork, asker: Asker): Promise<ServiceManifest>;
  /**
   * Packs a service into a new file. A failure may leave a part of it.
   * @throws as `inspect`
   */
  pack(work: PackWork, asker: Asker): Promise<PackedService>;
}

/** @returns inspections without a separate process: for the user's own folders, and for tests */
export function createInProcessInspections(): Inspections {
  const id = 1;
  return {
    inspect: async (work) => manifestOf(await answerRequest({ ...work, id, act: 'inspect' })),
    pack: async (work) => packedOf(await answerRequest({ ...work, id, act: 'pack' })),
  };
}

/** @throws the failure in the answer */
export function manifestOf(answer: InspectionAnswer): ServiceManifest {
  if (answer.kind === 'inspected') return answer.manifest;
  throw failureOf(answer);
}

/** @throws the failure in the answer */
export function packedOf(answer: InspectionAnswer): PackedService {
  if (answer.kind !== 'packed') throw failureOf(answer);
  const { sha256, bytes, lockSha256 } = answer;
  return { sha256, bytes, ...defined({ lockSha256 }) };
}

function failureOf(answer: InspectionAnswer): Error {
  if (answer.kind === 'refused') return new KilnError(answer.code, answer.message, answer.details);
  if (answer.kind === 'exhausted') {
    return inspectionLimit('memory', 'Reading the service took more memory, or a deeper stack, than it may have.');
  }
  if (answer.kind !== 'failed') return new Error(`an answer of another kind than the question: ${answer.kind}`);
  const error = new Error(answer.message);
  return answer.errno === undefined ? error : Object.assign(error, { code: answer.errno });
}

/** @returns the error for a service whose folder takes too much to read, with advice */
export function inspectionLimit(limit: 'cpu' | 'memory' | 'wall', what: string): KilnError {
  const fix =
    'Make what is read of it smaller or simpler (lock file, configuration, number and depth of files), and deploy it again.';
  return new KilnError('INSPECTION_LIMIT', `${what} ${fix}`, { limit });
}
