import { KilnError } from '../../domain/failures.ts';
import { workloadRef } from '../../domain/owner.ts';
import { needsOf, sameNeeds } from '../../domain/workload/workload.ts';
import type { ServiceSources } from '../../ports/builds.ts';
import type { WorkloadDocuments } from '../../ports/documents.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import { framed } from '../activity-frame.ts';
import type { HostActivities } from '../activity-types.ts';

/** Checks the service folder and its configuration, and that the caller gave every variable the manifest asks for. */
export function createValidateService(ports: {
  sources: ServiceSources;
  documents: WorkloadDocuments;
  logs: OwnerLogs;
}): HostActivities['validateService'] {
  return (input) =>
    framed(async (signal) => {
      const log = await ports.logs.open(workloadRef(input.workloadId, input.epoch));
      log.write('validate', 'info', `checking ${input.servicePath}`);
      const request = await ports.documents.readSpec(input.workloadId, input.specHash);
      const read = await ports.sources.inspect(request, signal);
      const missing = read.envRequired.filter((name) => request.env?.[name] === undefined);
      if (missing.length > 0) {
        throw new KilnError(
          'ENV_MISSING',
          `Missing environment variable${missing.length > 1 ? 's' : ''}: ${missing.join(', ')}. Give ${missing.length > 1 ? 'them' : 'it'} in "env" when creating the workload.`,
          { missing },
        );
      }
      const manifest = { ...read, health: { ...read.health, ...request.health } };
      log.write('validate', 'info', `valid: ${manifest.language} service, start "${manifest.hooks.start}"`);
      await log.flush();
      const needs = needsOf(request, manifest);
      return sameNeeds(needs, needsOf(request)) ? { manifest } : { manifest, needs };
    });
}
