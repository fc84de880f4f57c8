/* What would carry exchanges between GPUs: NCCL's version, and the ways that it finds within a node
 * and between nodes. Read from the system, since NCCL itself says so only in a job of several GPUs
 * (NCCL_DEBUG=INFO). */
#include "comm/comm_device.h"
#include "kernels/device.h"
#include "launch/doctor.h"

#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] && strcmp(value, "0") != 0;
}

/* Is the first port of an adapter up ("4: ACTIVE")? */
static bool active(const char *adapter)
{
    char path[512], state[32] = "";
    snprintf(path, sizeof path, "/sys/class/infiniband/%.200s/ports/1/state", adapter);
    FILE *f = fopen(path, "r");
    const bool read = f && fgets(state, sizeof state, f);
    if (f)
        fclose(f);
    return read && strstr(state, "ACTIVE");
}

/* Adapters of InfiniBand or RoCE that are up, by name; their number. */
static int adapters(char *text, size_t size)
{
    DIR *d = opendir("/sys/class/infiniband");
    int n = 0;
    size_t used = 0;
    text[0] = '\0';
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || !active(e->d_name))
            continue;
        if (used + strlen(e->d_name) + 3 < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s", n ? ", " : "", e->d_name);
        n++;
    }
    if (d)
        closedir(d);
    return n;
}

/* The interface that sockets would take: the first that is up and leads out of the machine. */
static void interface(char *text, size_t size)
{
    const char *asked = getenv("NCCL_SOCKET_IFNAME");
    struct ifaddrs *list = NULL;
    snprintf(text, size, "%s", asked && asked[0] ? asked : "no interface");
    if ((asked && asked[0]) || getifaddrs(&list) != 0)
        return;
    for (struct ifaddrs *i = list; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_flags & IFF_UP && !(i->ifa_flags & IFF_LOOPBACK) &&
            strncmp(i->ifa_name, "docker", 6) != 0) {
            snprintf(text, size, "%s", i->ifa_name);
            break;
        }
    freeifaddrs(list);
}

static void within(int gpus, char *text, size_t size)
{
    if (gpus < 2)
        snprintf(text, size, "one GPU: no way within the node");
    else if (is_set("NCCL_P2P_DISABLE"))
        snprintf(text, size, "within the node through %s (NCCL_P2P_DISABLE)",
                 is_set("NCCL_SHM_DISABLE") ? "the network" : "shared memory");
    else
        snprintf(text, size,
                 "within the node directly (NVLink, PCIe) where GPUs reach each other, else "
                 "through shared memory");
}

/* true: by sockets, with nothing better here. */
static bool between(char *text, size_t size)
{
    char names[160];
    const char *plugin = getenv("NCCL_NET");
    if (plugin && plugin[0]) {
        snprintf(text, size, "NCCL_NET=%s", plugin);
        return strcmp(plugin, "Socket") == 0;
    }
    const int n = adapters(names, sizeof names);
    if (n > 0 && !is_set("NCCL_IB_DISABLE")) {
        snprintf(text, size, "InfiniBand or RoCE (%s)%s", names,
                 access("/sys/module/nvidia_peermem", F_OK) == 0 ? ", straight from the GPU"
                                                                 : ", copied through the host");
        return false;
    }
    interface(names, sizeof names);
    snprintf(text, size, "sockets (%s)%s", names,
             n > 0 ? " although there is InfiniBand: NCCL_IB_DISABLE" : "");
    return true;
}

void doctor_nccl(doctor *d, bool several_nodes)
{
    char version[64], in[160], out[256];
    if (!device_built()) {
        doctor_ok(d, "NCCL", "not in this build, which has no CUDA; ranks exchange by MPI");
        return;
    }
    const int gpus = device_count(NULL, 0);
    if (comm_device_library(version, sizeof version) != STATUS_OK) {
        if (gpus > 0)
            doctor_advise(d, "NCCL", "install it: GPUs exchange through it", "%s",
                          failure_last()->text);
        else
            doctor_ok(d, "NCCL", "does not load, and no GPU here needs it; ranks exchange by MPI");
        return;
    }
    if (gpus == 0) {
        doctor_ok(d, "NCCL", "%s; no GPU or driver here: ranks exchange by MPI", version);
        return;
    }
    within(gpus, in, sizeof in);
    const bool slow = between(out, sizeof out);
    if (slow && several_nodes)
        doctor_advise(d, "NCCL",
                      "ask for the fast network's drivers in the job or container; see "
                      "launch/slurm/site.conf for its settings",
                      "%s: %s; between nodes by %s", version, in, out);
    else
        doctor_ok(d, "NCCL", "%s: %s; between nodes by %s", version, in, out);
}
