# The environment of a job's ranks, sourced by job.sh after site.conf. Each line says what it is for; what is already set
# when the job is submitted stays, but for the number of threads. crocuta guards itself against the known faults of Open
# MPI and needs none of this.

# keep NAME VALUE: exports NAME, unless it is set or VALUE is empty.
keep() { [ -n "${!1+set}" ] || [ -z "$2" ] || export "$1=$2"; }

# ---- Slurm
export SRUN_CPUS_PER_TASK="$THREADS"             # from 22.05 on, srun does not take it over from sbatch: a rank would have one core

# ---- OpenMP: the threads of one rank
export OMP_NUM_THREADS="$THREADS"                # the cores of a task, whatever a login shell said; crocuta gets the same by --threads
keep OMP_PLACES cores                            # a thread a core, not a hyperthread
keep OMP_PROC_BIND close                         # threads stay near the memory that they touched first
keep GOMP_SPINCOUNT 1000                         # then sleep: a waiting thread must not eat the core of another rank
keep OPENBLAS_NUM_THREADS 1                      # crocuta divides products among its own threads

# ---- Open MPI: agreements before the first step, the coordinator's messages, gradients where there are no GPUs
keep OMPI_MCA_mpi_yield_when_idle 1              # a waiting rank leaves its core to others; srun does not set it as mpirun does
keep OMPI_MCA_btl ^openib                        # the old InfiniBand driver: UCX (pml ucx) does its work, it only warns
keep OMPI_MCA_btl_tcp_if_include "$INTERFACE"    # without it every interface is tried, those of containers too, and connecting hangs
keep OMPI_MCA_mca_base_component_show_load_errors 0 # no page about drivers that this node has no use for
keep PMIX_MCA_gds hash                           # ranks ask Slurm for addresses; the store in shared memory fails in some containers

# ---- UCX: what Open MPI travels on where there is InfiniBand
keep UCX_NET_DEVICES "$INFINIBAND"               # device:port; without it, whichever answers first, Ethernet too
keep UCX_WARN_UNUSED_ENV_VARS n                  # no warning about these very lines

# ---- NCCL: gradients between GPUs
keep NCCL_SOCKET_IFNAME "$INTERFACE"             # where ranks find each other; the first interface is often the wrong one
keep NCCL_IB_HCA "${INFINIBAND:+=$INFINIBAND}"   # `=`: exactly these, not all whose names begin so
keep NCCL_DEBUG WARN                             # one line where something fails; INFO shows the transports that were chosen
keep CUDA_DEVICE_ORDER PCI_BUS_ID                # GPUs are counted as nvidia-smi counts them, the same way in each rank of a node

# ---- HDF5
keep HDF5_USE_FILE_LOCKING FALSE                 # Lustre without `flock` refuses locks; crocuta locks the run directory itself

# ---- temporary files of all of these
[ -z "$SCRATCH" ] || export TMPDIR="$SCRATCH"
