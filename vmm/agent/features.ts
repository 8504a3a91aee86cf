import { KilnError } from '../../domain/failures.ts';
import type { AgentHello } from '../../ports/guest-agent.ts';

/** What a host asks of an agent only where its hello announces it. */
export type AgentFeature = 'exec-cgroup' | 'exec-usage';

/** @throws UNSUPPORTED where the agent does not announce the feature. An older one would ignore what is asked. */
export function requireFeature({ features, agentVersion }: AgentHello, feature: AgentFeature, what: string): void {
  if (features.includes(feature)) return;
  throw new KilnError('UNSUPPORTED', `The agent of this guest cannot ${what}: it does not announce ${feature}.`, {
    feature,
    agentVersion,
    fix: 'build the image again with `kiln image build NAME`, and start a new VM from it',
  });
}
