/** Create: writes the spec document first, then starts the workflow; every step may be repeated at any time. */
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { defineSearchAttributeKey, type SearchAttributePair } from '@temporalio/common';
import { workloadRequestSchema } from '../../../contracts/api/workload-request.ts';
import { canonicalHash } from '../../../contracts/canonical-json.ts';
import { workloadIdSchema } from '../../../contracts/identifiers.ts';
import type { SpecDocument } from '../../../contracts/store/workload-documents.ts';
import { DEFAULT_PRIORITY } from '../../../domain/capacity/priority.ts';
import { defined } from '../../../domain/defined.ts';
import { KilnError } from '../../../domain/failures.ts';
import { code } from '../../../domain/markdown-text.ts';
import { type SearchAttribute, workloadWorkflowId } from '../../../domain/names.ts';
import { INITIAL_STAGE } from '../../../domain/workload/stages.ts';
import { DEFAULT_GUEST_PORT, needsOf, type WorkloadRequest } from '../../../domain/workload/workload.ts';
import type { WorkloadInput } from '../../../domain/workload/workload-input.ts';
import { WORKLOAD_WORKFLOW } from '../../../workflows/messages.ts';
import type { ClientContext, WorkloadSnapshot } from '../client-context.ts';
import { withDeadline } from '../temporal-calls.ts';
import { assertMayBeNew } from './new-workload-rules.ts';
import { readWorkload } from './read-workload.ts';

/** The server allows 64 bytes; ids of projects are ASCII. */
const FAIRNESS_KEY_CHARS = 64;

/** @throws SPEC_INVALID, PORT_NOT_ALLOWED, NOT_FOUND (deployment), CONFLICT, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function createWorkload(
  context: ClientContext,
  request: WorkloadRequest,
  id: string = mintId('w'),
): Promise<{ snapshot: WorkloadSnapshot; created: boolean }> {
  const document = await specDocument(request, id);
  await assertMayBeNew(context, document);
  const standing = await context.archive.createSpec(document);
  if (standing.hash !== document.hash) {
    throw new KilnError(
      'CONFLICT',
      `The id ${id} belongs to a workload with another request; choose another id, or repeat the first request.`,
      { id },
    );
  }
  const created = standing.requestedAt === document.requestedAt;
  await startFromSpec(context, standing);
  return { snapshot: await readWorkload(context, id), created };
}

/**
 * Starts the workflow of a spec, unless it was ever started before: a workload that is over, or that Temporal has
 * forgotten, never gets a second VM.
 */
export async function startFromSpec(context: ClientContext, spec: SpecDocument): Promise<void> {
  const { archive, client, timings } = context;
  if (await archive.wasStarted(spec.workloadId)) return;
  if ((await archive.result(spec.workloadId)) !== undefined) return;
  try {
    await withDeadline(client, timings.callMs, () =>
      client.workflow.start(WORKLOAD_WORKFLOW, startOptions(context, spec)),
    );
  } catch (error) {
    // Already closed, and Temporal still has it.
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
  await archive.markStarted(spec.workloadId, new Date().toISOString());
}

function startOptions(context: ClientContext, spec: SpecDocument) {
  const input = workloadInput(context, spec);
  return {
    args: [input],
    taskQueue: context.taskQueue,
    workflowId: workloadWorkflowId(spec.workloadId),
    workflowIdConflictPolicy: 'USE_EXISTING',
    workflowIdReusePolicy: 'REJECT_DUPLICATE',
    staticSummary: `${code(input.servicePath, 120)} → ${code(input.image, 100)}`,
    staticDetails: staticDetails(input, spec),
    // Temporal hands out tasks of higher priority first, and serves projects in turn (where the server supports it).
    priority: {
      priorityKey: input.priority ?? DEFAULT_PRIORITY,
      ...(input.projectId === undefined ? {} : { fairnessKey: input.projectId.slice(0, FAIRNESS_KEY_CHARS) }),
    },
    // Shown by lists and by a GET without a worker; no environment.
    memo: { servicePath: input.servicePath, image: input.image, requestedAt: spec.requestedAt },
    typedSearchAttributes: attributes({
      KilnStage: INITIAL_STAGE,
      KilnDeployment: input.deploymentId,
      KilnProject: input.projectId,
    }),
  } as const;
}

/** The request, shown permanently in the Temporal Web UI; values of environment variables are never shown. */
function staticDetails(input: WorkloadInput, { request }: SpecDocument): string {
  const names = Object.keys(request.env ?? {});
  const { vcpus, memMib, diskMib } = input.resources;
  const rows = [
    `**Service:** ${code(input.servicePath, 1000)}`,
    `**Image:** ${code(input.image)}`,
    `**Resources:** ${vcpus} vCPU, ${memMib} MiB${diskMib === undefined ? '' : `, ${diskMib} MiB of disk`}`,
    `**Priority:** ${input.priority ?? DEFAULT_PRIORITY} of 1 (first) to 5`,
    `**Port:** ${input.port} in the guest${input.hostPort === undefined ? '' : `, ${input.hostPort} on the host`}`,
    ...(input.deploymentId === undefined ? [] : [`**Deployment:** ${code(input.deploymentId)}`]),
    ...(input.projectId === undefined ? [] : [`**Project:** ${code(input.projectId)}`]),
    ...(names.length === 0 ? [] : [`**Environment:** ${names.length} variables: ${code(names.join(' '), 500)}`]),
    `**Requested:** ${input.requestedAt}`,
  ];
  return rows.map((row) => `- ${row}`).join('\n');
}

function attributes(values: Partial<Record<SearchAttribute, string | undefined>>): SearchAttributePair[] {
  return Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [{ key: defineSearchAttributeKey(name, 'KEYWORD'), value }],
  );
}

function workloadInput(
  context: ClientContext,
  { workloadId, hash, request, requestedAt }: SpecDocument,
): WorkloadInput {
  return {
    schemaVersion: 1,
    workloadId,
    specHash: hash,
    servicePath: request.servicePath,
    ...defined({ deploymentId: request.deploymentId, projectId: request.projectId }),
    ...needsOf(request),
    ...defined({ priority: request.priority }),
    port: request.port ?? DEFAULT_GUEST_PORT,
    ...defined({ hostPort: request.hostPort }),
    requestedAt,
    ...defined({ policies: context.policies }),
    ...(context.logsUrl === undefined ? {} : { logsUrl: context.logsUrl(workloadId) }),
  };
}

async function specDocument(request: WorkloadRequest, id: string): Promise<SpecDocument> {
  if (!workloadIdSchema.safeParse(id).success) {
    throw new KilnError('SPEC_INVALID', 'The id of a workload must be 1 to 40 characters of a-z, 0-9 and -.');
  }
  const parsed = workloadRequestSchema.safeParse(request);
  if (!parsed.success) {
    const wrong = parsed.error.issues
      .slice(0, 10)
      .map((issue) => `${issue.path.join('.') || 'request'}: ${issue.message}`);
    throw new KilnError('SPEC_INVALID', `The request is not valid: ${wrong.join('; ')}`);
  }
  return {
    schemaVersion: 1,
    workloadId: id,
    hash: await canonicalHash(parsed.data),
    request: parsed.data,
    requestedAt: new Date().toISOString(),
  };
}

/** @returns a new id: the prefix and 60 random bits. */
export function mintId(prefix: string): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${prefix}-${Array.from(bytes, (byte) => ALPHABET[byte % 32]).join('')}`;
}

const ALPHABET = '0123456789abcdefghijklmnopqrstuv';
