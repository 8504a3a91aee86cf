/**
 * Rules for new workloads beyond the schema of the request. A repeated create returns the existing workload, whatever
 * the rules are now.
 */
import type { SpecDocument } from '../../../contracts/store/workload-documents.ts';
import { extraEgressPorts } from '../../../domain/egress/private-names.ts';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import { assertHostPort } from '../../../domain/host-ports.ts';
import { NEW_WORKLOAD_ID_PATTERN } from '../../../domain/names.ts';
import { DEFAULT_GUEST_PORT } from '../../../domain/workload/workload.ts';
import type { WorkloadArchive } from '../archive/workload-archive.ts';
import type { ClientContext } from '../client-context.ts';

type Rules = Pick<ClientContext, 'hostPorts' | 'privateNames'> & {
  readonly archive: Pick<WorkloadArchive, 'specDocument' | 'hasDeployment'>;
};

/**
 * Accepts any workload that exists, and a new one that follows the rules.
 * @throws SPEC_INVALID where its id cannot be a host name or its port in the guest is taken, PORT_NOT_ALLOWED where its host port is outside of the
 *   range, NOT_FOUND where it names a deployment that does not exist, STORE_UNAVAILABLE
 */
export async function assertMayBeNew(rules: Rules, document: SpecDocument): Promise<void> {
  try {
    await assertKeepsRules(rules, document);
  } catch (error) {
    // Only a refused request costs this look-up.
    if (isKilnError(error) && (await rules.archive.specDocument(document.workloadId)) !== undefined) return;
    throw error;
  }
}

async function assertKeepsRules(
  { archive, hostPorts, privateNames = [] }: Rules,
  { workloadId, request }: SpecDocument,
): Promise<void> {
  const { hostPort, deploymentId } = request;
  if (!NEW_WORKLOAD_ID_PATTERN.test(workloadId)) {
    throw new KilnError(
      'SPEC_INVALID',
      `The id ${workloadId} cannot be the host name of a guest: it must begin and end with a letter or a digit.`,
      { id: workloadId },
    );
  }
  assertGuestPort(request.port ?? DEFAULT_GUEST_PORT, privateNames);
  if (hostPorts !== undefined && hostPort !== undefined) assertHostPort(hostPort, hostPorts);
  if (deploymentId !== undefined && !(await archive.hasDeployment(deploymentId))) {
    throw new KilnError(
      'NOT_FOUND',
      `There is no deployment ${deploymentId}; create it first (\`kiln deployment create\` or POST /api/deployments).`,
      { deploymentId },
    );
  }
}

/** The guest's agent listens at these ports, for connections of the guest to the names. */
function assertGuestPort(port: number, privateNames: readonly string[]): void {
  if (!extraEgressPorts(privateNames).includes(port)) return;
  throw new KilnError(
    'SPEC_INVALID',
    `Port ${port} in the guest is one of the operator's setting KILN_EGRESS_PRIVATE; give another \`port\`, which the service is told in PORT.`,
    { port },
  );
}
