import { randomUUID } from 'node:crypto';
import type { Host } from '../../../host/host.ts';

/** Fetches a URL from inside the guest. @returns the body, or `refused` */
export async function fetchIn(host: Host, vmId: string, url: string): Promise<string> {
  const agent = await host.vms.agent(vmId);
  // Plain HTTP, which works the same in every version of Node.
  const script = `require('http').get(${JSON.stringify(url)}, (answer) => { let text = ''; answer.on('data', (data) => { text += data; }).on('end', () => console.log(text)).on('error', () => console.log('refused')); }).on('error', () => console.log('refused'))`;
  // `node` without a path: the guest has file systems of its own at /tmp and /root, which can hide a path of the host.
  const argv = ['node', '-e', script];
  const handle = await agent.exec({ execId: randomUUID(), argv, cwd: '/', output: 'wait' });
  const said: Buffer[] = [];
  for await (const piece of handle.output) if (piece.kind === 'data') said.push(piece.data);
  return Buffer.concat(said).toString().trim();
}

/** @returns the body of the answer, over a connection of its own */
export async function get(url: string): Promise<string> {
  return (await fetch(url, { headers: { connection: 'close' } })).text();
}
