import type { AgentChannel } from '../ports/guest-agent.ts';

/** The live channel of each VM: an agent serves one owner at a time, so a second caller gets the first one's channel. */
export interface AgentLinks {
  live(vmId: string): AgentChannel | undefined;
  hold(vmId: string, channel: AgentChannel): void;
  /** Lets go of the VM without disturbing it. */
  drop(vmId: string): Promise<void>;
}

export function createAgentLinks(): AgentLinks {
  const channels = new Map<string, AgentChannel>();
  return {
    live: (vmId) => channels.get(vmId),
    hold(vmId, channel) {
      channels.set(vmId, channel);
      void channel.closed.then(() => {
        if (channels.get(vmId) === channel) channels.delete(vmId);
      });
    },
    async drop(vmId) {
      const channel = channels.get(vmId);
      channels.delete(vmId);
      // A channel that fails while it is let go is gone all the same.
      await channel?.detach().catch(() => undefined);
    },
  };
}
