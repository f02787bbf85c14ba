# What a debugger does with a Linux kernel that runs: see the scenario `gdb`. CPU 1 is busy with a shell's loop.
# Variables are set: $utsname, where the kernel has its name, behind the system's, in fields of 65 bytes, $jiffies, its
# clock, and $write_cr4, the function.
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

# By steps, until the value is another.
set can-use-hw-watchpoints 0
set $before = *(long *)$jiffies
watch *(long *)$jiffies
continue
printf "GDB watches %d\n", *(long *)$jiffies != $before
delete

set var *$nodename = 'T'
echo GDB writes\n

# At its `mov %rdi,%cr4`, which a CPU comes to when it is brought up.
find /b $write_cr4, +32, (char)0x0f, (char)0x22
set $mov_cr4 = $_
hbreak *$mov_cr4
echo GDB waits\n
continue
printf "GDB stops CPU %d there: %d\n", $_thread - 1, $pc == $mov_cr4
stepi
printf "GDB goes on after it: %d\n", $pc == $mov_cr4 + 3
delete
detach
