/**
 * What is asked of a new workload beyond the form of its request. A create that is repeated is answered for its workload,
 * whatever the rules say by now.
 */
import type { SpecDocument } from '../../../contracts/store/workload-documents.ts';
import { isKilnError, type KilnError } from '../../../domain/failures.ts';
import { assertHostPort } from '../../../domain/host-ports.ts';
import type { WorkloadArchive } from '../archive/workload-archive.ts';
import type { ClientContext } from '../client-context.ts';

type Rules = Pick<ClientContext, 'hostPorts'> & { readonly archive: Pick<WorkloadArchive, 'specDocument'> };

/** @throws PORT_NOT_ALLOWED where the workload is new and its host port is outside of the range; STORE_UNAVAILABLE */
export async function assertMayBeNew(context: Rules, document: SpecDocument): Promise<void> {
  const refusal = refusalOf(context, document);
  if (refusal === undefined) return;
  const standing = await context.archive.specDocument(document.workloadId);
  if (standing === undefined) throw refusal;
}

function refusalOf({ hostPorts }: Rules, { request }: SpecDocument): KilnError | undefined {
  try {
    if (hostPorts !== undefined && request.hostPort !== undefined) assertHostPort(request.hostPort, hostPorts);
    return undefined;
  } catch (error) {
    if (isKilnError(error)) return error;
    throw error;
  }
}
