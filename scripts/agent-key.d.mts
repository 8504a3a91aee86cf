export function agentKey(projectRoot: string): string;
