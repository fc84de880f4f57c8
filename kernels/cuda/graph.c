/* Graphs: what is queued on the device's stream while one is recorded becomes one piece of work
 * that costs one call. Numbers for the host (cuda_note_take) end in memory of the graph's own, from
 * where each run takes them as a note, so that a graph may run again before anybody waits. */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>

#define GRAPH_NOTES 4

struct device_graph {
    cudaGraphExec_t run;
    char *values; /* device memory: a place of CUDA_NOTE_BYTES for each note */
    struct {
        void *to;
        size_t bytes;
    } note[GRAPH_NOTES];
    int notes;
    int64_t plans_gone; /* before it was recorded */
};

/* Memory is taken before the recording: nothing may be taken inside one. */
status graph_begin_cuda(device *dev)
{
    cuda_state *c = cuda_of(dev);
    void *values = NULL;
    if (c->recording)
        return fail(STATUS_INTERNAL, "graph: one is being recorded already; report this");
    device_graph *g = calloc(1, sizeof *g);
    if (!g)
        return fail(STATUS_MEMORY, "train.graph: no memory for a graph; set it to off");
    status st = memory_take_cuda(dev, (size_t)GRAPH_NOTES * CUDA_NOTE_BYTES, &values);
    g->values = values;
    g->plans_gone = c->plans_gone;
    if (st == STATUS_OK)
        st = CUDA(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal));
    if (st != STATUS_OK) {
        graph_free_cuda(dev, g);
        return st;
    }
    c->recording = g;
    return STATUS_OK;
}

status graph_end_cuda(device *dev, device_graph **out)
{
    cuda_state *c = cuda_of(dev);
    device_graph *g = c->recording;
    cudaGraph_t recorded = NULL;
    *out = NULL;
    if (!g)
        return fail(STATUS_INTERNAL, "graph: none is being recorded; report this");
    c->recording = NULL;
    status st = CUDA(cudaStreamEndCapture(c->stream, &recorded));
    if (st == STATUS_OK)
        st = CUDA(cudaGraphInstantiateWithFlags(&g->run, recorded, 0));
    if (recorded)
        cudaGraphDestroy(recorded);
    if (st != STATUS_OK) {
        graph_free_cuda(dev, g);
        return st;
    }
    *out = g;
    return STATUS_OK;
}

status graph_note_cuda(cuda_state *c, void *to, const void *from, size_t bytes)
{
    device_graph *g = c->recording;
    if (g->notes == GRAPH_NOTES)
        return fail(STATUS_INTERNAL, "graph: more than %d numbers for the host; report this",
                    GRAPH_NOTES);
    g->note[g->notes].to = to;
    g->note[g->notes].bytes = bytes;
    return CUDA(cudaMemcpyAsync(g->values + CUDA_NOTE_BYTES * g->notes++, from, bytes,
                                cudaMemcpyDeviceToDevice, c->stream));
}

status graph_run_cuda(device *dev, device_graph *g, const void *recorded, void *loss)
{
    cuda_state *c = cuda_of(dev);
    TRY_CUDA(cudaGraphLaunch(g->run, c->stream));
    for (int i = 0; i < g->notes; i++)
        TRY(cuda_note_take(c, g->note[i].to == recorded ? loss : g->note[i].to,
                           g->values + CUDA_NOTE_BYTES * i, g->note[i].bytes));
    return STATUS_OK;
}

bool graph_gone_cuda(const device *dev, const device_graph *g)
{
    return g && g->plans_gone != cuda_of(dev)->plans_gone;
}

/* A run may be queued still: memory_give_cuda waits. */
void graph_free_cuda(device *dev, device_graph *g)
{
    if (g->values)
        memory_give_cuda(dev, g->values);
    if (g->run)
        cudaGraphExecDestroy(g->run);
    free(g);
}
