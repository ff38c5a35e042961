# The image for both architectures, with an SBOM and provenance inside:
#   IMAGE=registry.example/zonegate COMMIT=$(git rev-parse --short HEAD) docker buildx bake --push
# Docker's own builder can do this only with containerd's image store. For others, once: docker buildx create --use
# A builder that runs on one architecture needs QEMU for the other: docker run --privileged --rm tonistiigi/binfmt --install all

variable "IMAGE" { default = "zonegate" }
# `npm run release:check` compares it with package.json.
variable "VERSION" { default = "0.2.0" }
variable "COMMIT" { default = "unknown" }

group "default" { targets = ["zonegate"] }

target "zonegate" {
  context = "."
  platforms = ["linux/amd64", "linux/arm64"]
  tags = ["${IMAGE}:${VERSION}"]
  args = { COMMIT = COMMIT }
  labels = {
    "org.opencontainers.image.title" = "Zonegate"
    "org.opencontainers.image.version" = VERSION
    "org.opencontainers.image.revision" = COMMIT
    "org.opencontainers.image.licenses" = "Apache-2.0"
  }
  attest = ["type=provenance,mode=max", "type=sbom"]
}
