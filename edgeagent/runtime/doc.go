// Package runtime is the contract between the agent and the container runtime of its node:
// what the agent may ask for, whatever holds the images. Drivers are one folder down
// (layout, containerd, cri); runtimetest holds the one suite that all of them pass.
//
// The package owns words and promises and does nothing itself.
//
// Promises of every Driver:
//
//  1. Ensure is idempotent and level-based: it may be called again at any time, after a
//     crash at any instruction, and does only what is missing.
//  2. A name points at an image only when all of the image is on the node. A name that
//     pointed elsewhere keeps pointing there until then.
//  3. Remove removes the names it is given and no other name. Content goes when the last
//     name of it is gone.
//  4. What was fetched of an image stays, for a day at least, when Ensure is cancelled or
//     fails, or the agent or the runtime is killed, if the driver has the capability
//     resume. Calling Ensure again within half a day keeps it for longer.
//  5. A runtime that restarts makes calls fail, not the driver: the same call works when
//     the runtime is back.
//  6. Ensure asks Request.Admit before it fetches more than documents, and again if more is
//     to come than it asked for.
//  7. Errors carry a reason (ReasonOf) and no credential, token or URL.
//
// What differs between drivers is said by Info.Capabilities. A wish that a driver cannot
// honour is not an error of Ensure: the agent reads the capabilities and says so.
//
// A Driver may be used by several goroutines at once. Ensure for one digest is done one
// after the other, for different digests at the same time.
package runtime
