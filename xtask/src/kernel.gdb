# What a debugger does with a Linux kernel that runs: see the scenario `gdb`. CPU 1 is busy with a shell's loop.
# $utsname is set: where the kernel has its name, behind the system's, in fields of 65 bytes.
set pagination off
set confirm off
set remotetimeout 60
target remote /tmp/gdb.sock
set $nodename = (char *)$utsname + 65
printf "GDB reads %s\n", $nodename
info threads

thread 2
set $here = $pc
stepi 100
printf "GDB steps %d\n", $pc != $here
info registers cr0 cs gs_base
printf "GDB stack %d\n", *(long *)$rsp == *(long *)$rsp

# Debug registers take them, and they are there during a step.
watch *$nodename
rwatch *($nodename + 1)
awatch *(long *)($nodename + 7)
hbreak *$utsname
stepi
printf "GDB hardware %d\n", $bpnum
delete

set var *$nodename = 'T'
echo GDB writes\n
detach
