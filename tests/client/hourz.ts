// A client of Hourz as an app would have it: fetch and a socket, with types that are generated from the documents.
import createClient from "openapi-fetch";
import { WebSocket } from "ws";
import type { components, paths } from "./api.js";
import type { components as socket } from "./events.js";

export type Schemas = components["schemas"];
export type FrameSent = socket["schemas"]["FrameSent"];
export type FrameReceived = socket["schemas"]["FrameReceived"];
export type Problem = Schemas["Problem"];

interface Answered<T> {
  data?: T;
  error?: Problem | undefined;
  response: Response;
}

export class Refused extends Error {
  constructor(readonly problem: Problem, readonly headers: Headers) {
    super(`${problem.status} ${problem.code}: ${problem.detail}`);
  }
}

/** The answer, or its problem document thrown. */
export async function good<T>(answered: Promise<Answered<T>>): Promise<T> {
  const { data, error, response } = await answered;
  if (error) throw new Refused(error, response.headers);
  return data as T;
}

/** A client that says who it is: `tokens` may change underway, as after a refresh. */
export function client(base: string) {
  let tokens: Schemas["TokenPair"] | undefined;
  const api = createClient<paths>({ baseUrl: base });
  api.use({
    onRequest({ request }) {
      if (tokens && !request.headers.has("Authorization")) {
        request.headers.set("Authorization", `Bearer ${tokens.access_token}`);
      }
      return request;
    },
  });
  return {
    api,
    async logIn(email: string, password: string) {
      tokens = await good(api.POST("/api/auth/login", { body: { email, password } }));
      return tokens;
    },
    async refresh() {
      if (!tokens) throw new Error("nobody is logged in");
      tokens = await good(api.POST("/api/auth/refresh", { body: { refresh_token: tokens.refresh_token } }));
      return tokens;
    },
    /** A socket with a ticket, as a browser opens it. */
    async connect() {
      const { ticket } = await good(api.POST("/api/ws/ticket"));
      return new Connection(`${base.replace("http", "ws")}/ws?ticket=${ticket}`);
    },
  };
}

type DataOf<K extends FrameReceived["type"]> = Extract<FrameReceived, { type: K }>["data"];

/** A socket whose frames can be awaited by type. */
export class Connection {
  private readonly socket: WebSocket;
  private readonly frames: FrameReceived[] = [];
  private readonly waiting: (() => void)[] = [];

  constructor(url: string) {
    this.socket = new WebSocket(url, ["hourz.v1"]);
    this.socket.on("message", (text) => {
      this.frames.push(JSON.parse(String(text)) as FrameReceived);
      for (const wake of this.waiting.splice(0)) wake();
    });
    this.socket.on("error", (error) => {
      throw error;
    });
  }

  send(frame: FrameSent) {
    this.socket.send(JSON.stringify(frame));
  }

  /** The next frame of this type, within 20 seconds; others stay. */
  async next<K extends FrameReceived["type"]>(type: K): Promise<DataOf<K>> {
    const end = Date.now() + 20_000;
    while (true) {
      const at = this.frames.findIndex((frame) => frame.type === type);
      if (at >= 0) return this.frames.splice(at, 1)[0]?.data as DataOf<K>;
      if (Date.now() > end) throw new Error(`no ${type} came, but ${JSON.stringify(this.frames)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        this.waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  close() {
    return new Promise<number>((resolve) => {
      this.socket.on("close", resolve);
      this.socket.close(1000);
    });
  }
}
