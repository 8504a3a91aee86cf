import { randomUUID } from 'node:crypto';
import type { Host } from '../../../host/host.ts';

/** What a program in the guest gets to read. */
export async function fetchIn(host: Host, vmId: string, url: string): Promise<string> {
  const agent = await host.vms.agent(vmId);
  // Plain HTTP, which any Node that a machine may have speaks alike.
  const script = `require('http').get(${JSON.stringify(url)}, (answer) => { let text = ''; answer.on('data', (data) => { text += data; }).on('end', () => console.log(text)).on('error', () => console.log('refused')); }).on('error', () => console.log('refused'))`;
  // By name: a checkout below /tmp or /root is hidden by the guest's own file systems there.
  const argv = ['node', '-e', script];
  const handle = await agent.exec({ execId: randomUUID(), argv, cwd: '/', output: 'wait' });
  const said: Buffer[] = [];
  for await (const piece of handle.output) if (piece.kind === 'data') said.push(piece.data);
  return Buffer.concat(said).toString().trim();
}

/** @returns the body of an answer, over a connection of its own */
export async function get(url: string): Promise<string> {
  return (await fetch(url, { headers: { connection: 'close' } })).text();
}
