import { KilnError } from '../../domain/failures.ts';
import type { AgentHello } from '../../ports/guest-agent.ts';

/** What a host asks of an agent only where its hello announces it. */
export type AgentFeature = 'exec-cgroup' | 'exec-usage' | 'workspace-save';

/** @throws UNSUPPORTED where the agent does not announce the feature. An older one would ignore what is asked. */
export function requireFeature({ features, agentVersion }: AgentHello, feature: AgentFeature, what: string): void {
  if (features.includes(feature)) return;
  throw new KilnError(
    'UNSUPPORTED',
    `The agent of this guest cannot ${what}: it does not announce ${feature}. Build the image again with \`kiln image build NAME\`, and begin a new session or workload with it.`,
    { feature, agentVersion },
  );
}
