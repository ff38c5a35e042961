# The processor and the demo's receivers. One stage is enough, because Node runs the TypeScript without a build.
# docker-bake.hcl builds it for x86-64 and arm64.
FROM node:24-slim
WORKDIR /zonegate

# The folder of the sockets, for this user and for group 101, Envoy's in its own image. A new volume mounted here gets the same
# owner and mode.
RUN install -d -o node -g 101 -m 770 run

COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional --no-audit --no-fund && npm cache clean --force
COPY proto proto
COPY src src
COPY demo demo

# `zonegate version` and the log show it: docker compose build --build-arg COMMIT=$(git rev-parse --short HEAD)
ARG COMMIT=unknown
RUN echo "$COMMIT" > src/COMMIT && chmod 755 src/main.ts && ln -s /zonegate/src/main.ts /usr/local/bin/zonegate

# Limits for V8 and malloc; src/launch/instance.ts says why.
ENV NODE_ENV=production MALLOC_ARENA_MAX=1 NODE_OPTIONS="--max-semi-space-size=4 --max-old-space-size=512"
USER node:101
ENTRYPOINT ["node", "--no-concurrent-recompilation", "--single-threaded-gc"]
CMD ["src/main.ts", "serve"]
