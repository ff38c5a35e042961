# The processor, and the demo's receivers. One stage: Node runs the TypeScript as it is, there is nothing to build.
FROM node:24-slim
WORKDIR /zonegate

# The sockets' folder. 101 is Envoy's group in its image: it may connect there and have its admin socket there, nobody else
# may. A new volume that is mounted here takes over this owner and mode.
RUN install -d -o node -g 101 -m 770 run

COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional --no-audit --no-fund && npm cache clean --force
COPY proto proto
COPY src src
COPY demo demo

# What `zonegate version` and the log's line `ready` say: docker compose build --build-arg COMMIT=$(git rev-parse --short HEAD)
ARG COMMIT=unknown
RUN echo "$COMMIT" > src/COMMIT && chmod 755 src/main.ts && ln -s /zonegate/src/main.ts /usr/local/bin/zonegate

# Bounds for V8 and malloc, and less beside the main thread: see src/launch/instance.ts.
ENV NODE_ENV=production MALLOC_ARENA_MAX=1 NODE_OPTIONS="--max-semi-space-size=4 --max-old-space-size=512"
USER node:101
ENTRYPOINT ["node", "--no-concurrent-recompilation", "--single-threaded-gc"]
CMD ["src/main.ts", "serve"]
