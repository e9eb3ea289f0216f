/** Server-sent events out of a response that was fetched with the token: EventSource can send no header. */

export interface SentEvent { event: string; data: string }

/** Calls for each event until the response ends; throws what reading it throws. Comments and ids are passed over. */
export async function readEvents(r: Response, take: (e: SentEvent) => void): Promise<void> {
  const reader = r.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split('\n\n');
    rest = whole.pop()!;
    for (const text of whole) {
      const lines = text.split('\n');
      const data = lines.filter((l) => l.startsWith('data:')).map((l) => l.slice(5).replace(/^ /, ''));
      const event = lines.findLast((l) => l.startsWith('event:'))?.slice(6).trim() ?? 'message';
      if (data.length > 0) take({ event, data: data.join('\n') });
    }
  }
}
