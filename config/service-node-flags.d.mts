export function serviceNodeFlags(args: readonly string[], nodeOptions?: string): string[];
